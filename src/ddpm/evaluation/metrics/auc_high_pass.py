"""A classifier two-sample test (Lopez-Paz & Oquab 2017) on high-pass filtered images."""

from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.metric import SHARE, Comparison, Described, metric
from ddpm.evaluation.two_sample import HEADLINE, high_pass, two_sample


@metric(
    __name__,
    better="lower",
    sees="any difference in texture and edges",
    catches=("half_detail", "blurred", "grid", "cluster_means"),
    headline=HEADLINE,
    values=SHARE,
)
def auc_high_pass(comparison: Comparison, images: Described) -> Estimate:
    """AUC on held-out halves: 0.5 if the network cannot tell samples from real images, 1 if it always can."""
    real = comparison.reference.images[comparison.equal_reference]
    return two_sample(images.images, real, high_pass, comparison.epochs, comparison.seed)
