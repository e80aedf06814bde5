"""The published FID: Frechet distance in the features of Inception (Heusel et al. 2017), given its weights."""

from functools import partial

from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.frechet import fid
from ddpm.evaluation.metric import DISTANCE, Comparison, Described, metric


@metric(__name__, better="lower", sees="features of photographs, on the scale of published values", values=DISTANCE)
def fid_inception(comparison: Comparison, images: Described) -> Estimate | None:
    """None without Inception's weights."""
    if comparison.reference.inception is None or images.inception is None:
        return None
    return comparison.estimate(partial(fid, comparison.reference.inception), images.inception)
