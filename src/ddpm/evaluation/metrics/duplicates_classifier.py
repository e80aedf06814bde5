"""Share of the samples that are as close to a training image, in features, as a duplicate (Carlini et al. 2023)."""

from ddpm.evaluation.estimate import Scores
from ddpm.evaluation.metric import Comparison, metric


@metric(__name__, better="near the floor", sees="copies of training images, in features")
def duplicates_classifier(comparison: Comparison) -> Scores:
    """Far above the floor, the model has memorised images."""
    return comparison.copies("features").rate
