"""The trade-off of guidance: precision, recall and caption adherence by guidance scale."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from ddpm.captions.adherence import adherence
from ddpm.captions.vocabulary import captions
from ddpm.evaluation.captioned import mean
from ddpm.evaluation.classifier import Classifier, describe
from ddpm.evaluation.estimate import Estimate, estimate, share
from ddpm.evaluation.manifold import in_manifold, share_in_manifold
from ddpm.run.seeding import generator


class Judges(NamedTuple):
    """The models and data that samples are evaluated with.

    Attributes:
        classifier: Gives the features for precision and recall, and predicts classes.
        clips: Functions of images and token IDs of captions, by name, such as `Clip.scores`.
        reference: Features of as many real images as samples.
        rounds: Half-samples per interval.
        seed: Seed of the half-samples.
    """

    classifier: Classifier
    clips: Mapping[str, Callable[[Tensor, Tensor], Tensor]]
    reference: Float[Tensor, "n features"]
    rounds: int
    seed: int


def reference_features(
    classifier: Classifier, real: UInt8[Tensor, "m c h w"], n: int, seed: int
) -> Float[Tensor, "n features"]:
    """The features of n random images."""
    chosen = torch.randperm(len(real), generator=generator(seed, "reference"))[:n]
    return describe(classifier, real[chosen]).features


def judged(samples: UInt8[Tensor, "n c h w"], rows: Integer[Tensor, "n length"], judges: Judges) -> dict[str, Estimate]:
    """Precision, recall, the share of samples that match their captions, and the mean score of each CLIP.

    Args:
        samples: 8-bit samples.
        rows: The token IDs of their captions.
        judges: The models and data to evaluate them with.
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
        found: Outputs of `judged` by method and scale.
    """
    rows, names = list[list[object]](), dict[str, None]()
    for method, by_scale in found.items():
        for scale, scores in by_scale.items():
            names |= dict.fromkeys(f"{name}{end}" for name in scores for end in ("", "_low", "_high"))
            rows.append([method, scale, *(x for each in scores.values() for x in (each.value, each.low, each.high))])
    return ["method", "scale", *names], rows


Point = tuple[float, float]  # recall and precision


def dominated_area(points: Sequence[Point]) -> float:
    """The area dominated by the points (hypervolume with reference point (0, 0)), from 0 to 1."""
    area, reach = 0.0, 0.0
    for x, y in sorted(points, reverse=True):
        area += max(0.0, y - reach) * x
        reach = max(reach, y)
    return area


def undominated(points: Sequence[Point], others: Sequence[Point]) -> float:
    """The share of the points that no other point exceeds in both coordinates."""
    return sum(not any(x < a and y < b for a, b in others) for x, y in points) / len(points)


def summary(found: Mapping[str, Sequence[Mapping[str, Estimate]]]) -> dict[str, float]:
    """The metrics that claims refer to, by method: measures of the frontier, and the best of each other score.

    Args:
        found: Outputs of `judged` by method, one per scale.
    """
    points = {name: [(each["recall"].value, each["precision"].value) for each in rows] for name, rows in found.items()}
    values: dict[str, float] = {}
    for name, own in points.items():
        others = [point for other, theirs in points.items() if other != name for point in theirs]
        values |= {f"{name}/frontier": dominated_area(own), f"{name}/undominated": undominated(own, others)}
        for judge in set(found[name][0]) - {"precision", "recall"}:
            values[f"{name}/{judge}"] = max(each[judge].value for each in found[name])
    return values
