"""What guidance trades: precision against recall, and how true samples are to their captions, scale by scale."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from ddpm.captions.adherence import adherence
from ddpm.captions.vocabulary import captions
from ddpm.evaluation.captioned import mean
from ddpm.evaluation.classifier import Classifier, describe
from ddpm.evaluation.estimate import Estimate, estimate
from ddpm.evaluation.manifold import share_in_manifold


class Judges(NamedTuple):
    """By what samples are judged.

    Attributes:
        classifier: In whose features precision and recall are taken, and which sees classes.
        clips: Scores of images and their captions' words, by name, such as `Clip.scores`.
        reference: Features of as many real images as samples.
        rounds: Random halves behind each interval.
        seed: Of the halves.
    """

    classifier: Classifier
    clips: Mapping[str, Callable[[Tensor, Tensor], Tensor]]
    reference: Float[Tensor, "n features"]
    rounds: int
    seed: int


def judged(samples: UInt8[Tensor, "n c h w"], rows: Integer[Tensor, "n length"], judges: Judges) -> dict[str, Estimate]:
    """Precision, recall, the share of samples that adhere, and the mean score of each CLIP.

    Args:
        samples: 8-bit.
        rows: The words of their captions.
        judges: By what.
    """
    seen = describe(judges.classifier, samples)
    adheres = adherence(samples, captions(rows), seen.classes).whole
    own = judges.rounds, judges.seed
    found = {
        "precision": estimate(lambda some: share_in_manifold(some, judges.reference), seen.features, *own),
        "recall": estimate(lambda some: share_in_manifold(judges.reference, some), seen.features, *own),
        "adherence": mean(adheres, *own),
    }
    for name, scores in judges.clips.items():
        found[name] = mean(scores(samples, rows), *own)
    return found


def columns(names: Sequence[str]) -> list[str]:
    """The columns of a table of `judged`: method, scale, and each value with its interval."""
    return ["method", "scale", *(f"{name}{end}" for name in names for end in ("", "_low", "_high"))]


def row(method: str, scale: float, found: Mapping[str, Estimate]) -> list[object]:
    """A row of that table."""
    return [method, scale, *(x for each in found.values() for x in (each.value, each.low, each.high))]
