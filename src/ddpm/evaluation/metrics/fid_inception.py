"""The published FID: Frechet distance in the features of Inception (Heusel et al. 2017), if its weights are there."""

from functools import partial

import torch

from ddpm.evaluation.estimate import Scores
from ddpm.evaluation.frechet import fid
from ddpm.evaluation.metric import Comparison, Described, metric


@metric(__name__, better="lower", sees="what photographs are made of, on the scale of published values")
def fid_inception(comparison: Comparison) -> Scores | None:
    """None without Inception's weights."""
    if comparison.reference.inception is None:
        return None
    return comparison.beside_floor(partial(fid, comparison.reference.inception), _features)


def _features(images: Described) -> torch.Tensor:
    assert images.inception is not None
    return images.inception
