"""A classifier two-sample test (Lopez-Paz & Oquab 2017) of images in 16 levels of grey."""

from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.metric import SHARE, Comparison, Described, metric
from ddpm.evaluation.two_sample import HEADLINE, in_16_levels, two_sample


@metric(
    __name__,
    better="lower",
    sees="whatever differs in 16 levels of grey",
    catches=("half_detail", "blurred", "cluster_means"),
    headline=HEADLINE,
    values=SHARE,
)
def auc_16_levels(comparison: Comparison, images: Described) -> Estimate:
    """0.5: it cannot tell. 1: it always can."""
    real = comparison.reference.images[comparison.equal_reference]
    return two_sample(images.images, real, in_16_levels, comparison.epochs, comparison.seed)
