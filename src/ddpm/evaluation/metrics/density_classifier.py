"""Density: precision that is not inflated by outliers among the real images (Naeem et al. 2020, equation 4)."""

from functools import partial

from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.manifold import density
from ddpm.evaluation.metric import DISTANCE, Comparison, Described, metric

K = 5  # as in the paper


@metric(
    __name__,
    better="higher",
    sees="how densely real images lie around each sample",
    catches=("noisy",),
    values=DISTANCE,
)
def density_classifier(comparison: Comparison, images: Described) -> Estimate:
    """Computed on as many reference images as there are samples. Typical samples score above real images."""
    reference = comparison.reference.features[comparison.equal_reference]
    return comparison.estimate(partial(density, others=reference, k=K), images.features)
