"""Total variation distance between the class frequencies of samples and of real images."""

from ddpm.evaluation.estimate import Scores
from ddpm.evaluation.metric import Comparison, frequencies, metric


@metric(__name__, better="lower", sees="the share of each class, from 0 (equal) to 1 (disjoint)")
def class_distance_classifier(comparison: Comparison) -> Scores:
    """As the classifier sees both."""
    n_classes = comparison.n_classes
    real = frequencies(comparison.reference.classes, n_classes)
    return comparison.beside_floor(
        lambda classes: (frequencies(classes, n_classes) - real).abs().sum().item() / 2, lambda images: images.classes
    )
