"""Share of the samples that the classifier assigns to the requested class."""

from ddpm.evaluation.estimate import Estimate, share
from ddpm.evaluation.metric import Comparison, Described, metric


@metric(__name__, better="higher", sees="whether samples show the requested class")
def label_accuracy_classifier(comparison: Comparison, images: Described) -> Estimate | None:
    """None for unconditional samples. Very typical samples can score above real images."""
    if comparison.samples.labels is None or images.labels is None:
        return None
    return share(images.classes == images.labels)
