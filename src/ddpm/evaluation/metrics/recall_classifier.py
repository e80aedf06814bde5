"""Recall: the share of real images within the manifold of the samples (Kynkaanniemi et al. 2019)."""

from functools import partial

from ddpm.evaluation.estimate import Scores
from ddpm.evaluation.manifold import share_in_manifold
from ddpm.evaluation.metric import Comparison, metric


@metric(__name__, better="higher", sees="how much of the variety of real images is there")
def recall_classifier(comparison: Comparison) -> Scores:
    """Of as many reference images."""
    score = partial(share_in_manifold, comparison.equal_reference)
    return comparison.beside_floor(score, lambda images: images.features)
