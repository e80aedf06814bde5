"""Sliced Wasserstein distance between patches at level 2 of a Laplacian pyramid (Karras et al. 2018)."""

from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.metric import DISTANCE, Comparison, Described, metric
from ddpm.evaluation.patches import patch_distance


@metric(__name__, better="lower", sees="shape and brightness, without detail", catches=("darker",), values=DISTANCE)
def patches_coarse(comparison: Comparison, images: Described) -> Estimate:
    """In units of the level's standard deviation."""
    return patch_distance(comparison, images, level=2)
