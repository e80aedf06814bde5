"""What guidance trades: precision against recall, and how true samples are to their captions, scale by scale."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from ddpm.captions.adherence import adherence
from ddpm.captions.vocabulary import captions
from ddpm.evaluation.captioned import mean
from ddpm.evaluation.classifier import Classifier, describe
from ddpm.evaluation.estimate import Estimate, estimate, share
from ddpm.evaluation.manifold import in_manifold, share_in_manifold


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
    recall = estimate(lambda some: share_in_manifold(judges.reference, some), seen.features, *own)
    found = {
        "precision": share(in_manifold(seen.features, judges.reference)),
        "recall": replace(recall, low=max(recall.low, 0.0), high=min(recall.high, 1.0)),
        "adherence": share(adheres),
    }
    for name, scores in judges.clips.items():
        found[name] = mean(scores(samples, rows), *own)
    return found


def table(found: Mapping[str, Mapping[float, Mapping[str, Estimate]]]) -> tuple[list[str], list[list[object]]]:
    """Columns and rows of sweep.csv: method, scale, and each value of `judged` with its interval.

    Args:
        found: By method and scale.
    """
    rows, names = list[list[object]](), dict[str, None]()
    for method, by_scale in found.items():
        for scale, scores in by_scale.items():
            names |= dict.fromkeys(f"{name}{end}" for name in scores for end in ("", "_low", "_high"))
            rows.append([method, scale, *(x for each in scores.values() for x in (each.value, each.low, each.high))])
    return ["method", "scale", *names], rows


Point = tuple[float, float]  # recall and precision


def dominated_area(points: Sequence[Point]) -> float:
    """The area below and to the left of any of the points, from 0 to 1: how far a method pushes the frontier."""
    area, reach = 0.0, 0.0
    for x, y in sorted(points, reverse=True):
        area += max(0.0, y - reach) * x
        reach = max(reach, y)
    return area


def undominated(points: Sequence[Point], others: Sequence[Point]) -> float:
    """The share of the points that are below none of the others in both coordinates."""
    return sum(not any(x < a and y < b for a, b in others) for x, y in points) / len(points)


def summary(found: Mapping[str, Sequence[Mapping[str, Estimate]]]) -> dict[str, float]:
    """What claims are about, of two methods: frontiers, and the best value of each judge over the scales.

    Args:
        found: What `judged` gave, by method, scale by scale.
    """
    points = {name: [(each["recall"].value, each["precision"].value) for each in rows] for name, rows in found.items()}
    values: dict[str, float] = {}
    for name, own in points.items():
        others = [point for other, theirs in points.items() if other != name for point in theirs]
        values |= {f"{name}/frontier": dominated_area(own), f"{name}/undominated": undominated(own, others)}
        for judge in set(found[name][0]) - {"precision", "recall"}:
            values[f"{name}/{judge}"] = max(each[judge].value for each in found[name])
    return values
