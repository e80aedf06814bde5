"""Total variation distance between the class frequencies of samples and of real images."""

from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.metric import SHARE, Comparison, Described, frequencies, metric


@metric(
    __name__,
    better="lower",
    sees="class frequencies, from 0 (equal) to 1 (disjoint)",
    catches=("class_missing",),
    values=SHARE,
)
def class_distance_classifier(comparison: Comparison, images: Described) -> Estimate | None:
    """Both sets of classes are the classifier's predictions. None without labels."""
    n_classes = comparison.n_classes
    if not n_classes:
        return None
    real = frequencies(comparison.reference.classes, n_classes)
    return comparison.estimate(
        lambda classes: (frequencies(classes, n_classes) - real).abs().sum().item() / 2, images.classes
    )
