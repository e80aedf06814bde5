"""Share of the samples that the classifier takes for the class that was asked for."""

from jaxtyping import Float64
from torch import Tensor

from ddpm.evaluation.estimate import Scores
from ddpm.evaluation.metric import Comparison, Described, metric


@metric(__name__, better="higher", sees="whether samples are of the class that was asked for")
def label_accuracy_classifier(comparison: Comparison) -> Scores | None:
    """None if no classes were asked for. Samples that are only typical can score above real images."""
    if comparison.samples.labels is None or comparison.real.labels is None:
        return None
    return comparison.beside_floor(lambda hits: hits.mean().item(), _hits)


def _hits(images: Described) -> Float64[Tensor, " n"]:
    assert images.labels is not None
    return (images.classes == images.labels).double()
