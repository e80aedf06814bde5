"""Coverage: recall that scattered bad samples do not inflate (Naeem et al. 2020, equation 5)."""

from functools import partial

from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.manifold import coverage
from ddpm.evaluation.metric import SHARE, Comparison, Described, metric

K = 5  # of the paper


@metric(
    __name__,
    better="higher",
    sees="the share of real images with a sample beside them",
    catches=("cluster_means",),
    values=SHARE,
)
def coverage_classifier(comparison: Comparison, images: Described) -> Estimate:
    """Of as many reference images."""
    reference = comparison.reference.features[comparison.equal_reference]
    return comparison.estimate(partial(coverage, others=reference, k=K), images.features)
