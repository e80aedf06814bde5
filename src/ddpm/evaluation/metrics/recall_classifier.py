"""Recall: the share of real images within the manifold of the samples (Kynkaanniemi et al. 2019)."""

from functools import partial

from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.manifold import share_in_manifold
from ddpm.evaluation.metric import SHARE, Comparison, Described, metric


@metric(
    __name__,
    better="higher",
    sees="how much of the variety of real images the samples cover",
    catches=("cluster_means",),
    headline="recall",
    values=SHARE,
)
def recall_classifier(comparison: Comparison, images: Described) -> Estimate:
    """Computed on as many reference images as there are samples."""
    score = partial(share_in_manifold, comparison.reference.features[comparison.equal_reference])
    return comparison.estimate(score, images.features)
