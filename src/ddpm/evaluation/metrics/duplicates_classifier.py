"""Share of the samples that are duplicates of training images, in features (Carlini et al. 2023)."""

from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.metric import Comparison, Described, metric


@metric(__name__, better="near the floor", sees="copies of training images, in feature space", catches=("copies",))
def duplicates_classifier(comparison: Comparison, images: Described) -> Estimate:
    """A value far above the floor indicates memorisation."""
    rate = comparison.copies("features").rate
    return rate.samples if images is comparison.samples else rate.floor
