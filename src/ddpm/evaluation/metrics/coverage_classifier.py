"""Coverage: recall that is not inflated by scattered bad samples (Naeem et al. 2020, equation 5)."""

from functools import partial

from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.manifold import coverage
from ddpm.evaluation.metric import SHARE, Comparison, Described, metric

K = 5  # as in the paper


@metric(
    __name__,
    better="higher",
    sees="the share of real images with a sample nearby",
    catches=("cluster_means",),
    values=SHARE,
)
def coverage_classifier(comparison: Comparison, images: Described) -> Estimate:
    """Computed on as many reference images as there are samples."""
    reference = comparison.reference.features[comparison.equal_reference]
    return comparison.estimate(partial(coverage, others=reference, k=K), images.features)
