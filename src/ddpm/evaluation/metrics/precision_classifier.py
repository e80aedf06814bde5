"""Precision: the share of the samples within the manifold of real images (Kynkaanniemi et al. 2019)."""

from functools import partial

from ddpm.evaluation.estimate import Scores
from ddpm.evaluation.manifold import share_in_manifold
from ddpm.evaluation.metric import Comparison, metric


@metric(__name__, better="higher", sees="whether samples look like real images")
def precision_classifier(comparison: Comparison) -> Scores:
    """Within the manifold of as many reference images."""
    score = partial(share_in_manifold, others=comparison.equal_reference)
    return comparison.beside_floor(score, lambda images: images.features)
