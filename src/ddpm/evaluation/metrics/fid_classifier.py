"""Frechet distance in the features of the project's classifier (Heusel et al. 2017)."""

from functools import partial

from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.frechet import fid
from ddpm.evaluation.metric import DISTANCE, Comparison, Described, metric


@metric(
    __name__,
    better="lower",
    sees="class and shape, hardly texture",
    catches=("cluster_means", "class_missing"),
    headline="fid",
    values=DISTANCE,
)
def fid_classifier(comparison: Comparison, images: Described) -> Estimate | None:
    """Distance from all reference images. None if half of the images are too few for a full-rank covariance."""
    if len(images.features) // 2 <= images.features.shape[1]:
        return None
    return comparison.estimate(partial(fid, comparison.reference.features), images.features)
