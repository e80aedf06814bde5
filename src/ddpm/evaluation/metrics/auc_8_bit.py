"""A classifier two-sample test (Lopez-Paz & Oquab 2017) on the 8-bit images as they are."""

from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.metric import SHARE, Comparison, Described, metric
from ddpm.evaluation.two_sample import HEADLINE, as_they_are, two_sample


@metric(
    __name__,
    better="lower",
    sees="any difference, even a background of 1 instead of 0",
    catches=("half_detail", "blurred", "grid", "ground", "cluster_means"),
    headline=HEADLINE,
    values=SHARE,
)
def auc_8_bit(comparison: Comparison, images: Described) -> Estimate:
    """AUC on held-out halves: 0.5 if the network cannot tell samples from real images, 1 if it always can."""
    real = comparison.reference.images[comparison.equal_reference]
    return two_sample(images.images, real, as_they_are, comparison.epochs, comparison.seed)
