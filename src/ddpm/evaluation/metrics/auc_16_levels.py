"""A classifier two-sample test (Lopez-Paz & Oquab 2017) on images rounded to 16 grey levels."""

from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.metric import SHARE, Comparison, Described, metric
from ddpm.evaluation.two_sample import HEADLINE, in_16_levels, two_sample


@metric(
    __name__,
    better="lower",
    sees="any difference in 16 grey levels",
    catches=("half_detail", "blurred", "cluster_means"),
    headline=HEADLINE,
    values=SHARE,
)
def auc_16_levels(comparison: Comparison, images: Described) -> Estimate:
    """AUC on held-out halves: 0.5 if the network cannot tell samples from real images, 1 if it always can."""
    real = comparison.reference.images[comparison.equal_reference]
    return two_sample(images.images, real, in_16_levels, comparison.epochs, comparison.seed)
