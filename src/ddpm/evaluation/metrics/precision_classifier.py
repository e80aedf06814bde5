"""Precision: the share of the samples within the manifold of real images (Kynkaanniemi et al. 2019)."""

from functools import partial

from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.manifold import share_in_manifold
from ddpm.evaluation.metric import Comparison, Described, metric


@metric(__name__, better="higher", sees="whether samples look like real images", catches=("noisy",))
def precision_classifier(comparison: Comparison, images: Described) -> Estimate:
    """Within the manifold of as many reference images."""
    score = partial(share_in_manifold, others=comparison.reference.features[comparison.equal_reference])
    return comparison.estimate(score, images.features)
