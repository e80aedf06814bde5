"""Sliced Wasserstein distance between patches at level 0 of a Laplacian pyramid (Karras et al. 2018)."""

from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.metric import DISTANCE, Comparison, Described, metric
from ddpm.evaluation.patches import patch_distance


@metric(
    __name__,
    better="lower",
    sees="texture: the finest detail",
    catches=("half_detail", "blurred", "cluster_means"),
    headline="patches",
    values=DISTANCE,
)
def patches_fine(comparison: Comparison, images: Described) -> Estimate:
    """In units of the level's standard deviation."""
    return patch_distance(comparison, images, level=0)
