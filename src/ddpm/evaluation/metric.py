"""The registry of sample-quality metrics. Each is defined in a file of `metrics/`, with its description."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from typing import Literal

import torch
from jaxtyping import Float, Float64, Int64, Integer, Shaped, UInt8
from torch import Tensor

from ddpm.evaluation.estimate import Estimate, Scores, estimate, share
from ddpm.evaluation.neighbours import Neighbours, neighbours
from ddpm.images import from_uint8
from ddpm.registry import Registry
from ddpm.run.seeding import generator

Better = Literal["lower", "higher", "near the floor"]
SHARE, DISTANCE = (0.0, 1.0), (0.0, inf)  # minimum and maximum of a metric


@dataclass(frozen=True)
class Described:
    """A set of images with the features and classes that metrics need.

    Attributes:
        images: 8-bit images.
        features: Features of the classifier.
        classes: Classes predicted by the classifier, or rotations if the data set has no labels.
        labels: The true classes of real images, or the requested classes of samples. None without labels.
        inception: Features of Inception, or None without its weights.
    """

    images: UInt8[Tensor, "n c h w"]
    features: Float[Tensor, "n features"]
    classes: Int64[Tensor, " n"]
    labels: Integer[Tensor, " n"] | None = None
    inception: Float[Tensor, "n inception"] | None = None

    @cached_property
    def pixels(self) -> Float[Tensor, "n pixels"]:
        """The images as vectors in [0, 1]."""
        return from_uint8(self.images).flatten(1)


@dataclass(frozen=True)
class Copies:
    """The training images nearest to the samples, in one space. A duplicate has a closeness of at most `threshold`."""

    nearest: Neighbours
    threshold: float
    rate: Scores


@dataclass(frozen=True)
class Comparison:
    """Samples, and as many real images, to compare with a disjoint reference.

    Attributes:
        samples: The samples.
        real: As many real images that no model was trained on, for the floor.
        reference: Real images, disjoint from `real`.
        train: The training images, for duplicates.
        n_classes: Number of classes, or 0 without labels.
        n_halves: Half-samples per interval.
        duplicate_quantile: Share of the reference that counts as duplicates of training images.
        epochs: Training epochs of the two-sample tests.
        seed: Seed of all randomness.
    """

    samples: Described
    real: Described
    reference: Described
    train: Described
    n_classes: int
    n_halves: int
    duplicate_quantile: float
    epochs: int
    seed: int
    _copies: dict[str, Copies] = field(default_factory=dict, init=False, repr=False, compare=False)

    def estimate(self, score: Callable[[Tensor], float], points: Shaped[Tensor, "n *rest"]) -> Estimate:
        """The score of some points, one per image, with its interval."""
        return estimate(score, points, self.n_halves, self.seed)

    @cached_property
    def equal_reference(self) -> Int64[Tensor, " n"]:
        """Random indices of as many reference images as samples, for metrics that need sets of equal size."""
        chosen = torch.randperm(len(self.reference.images), generator=generator(self.seed, "reference"))
        return chosen[: len(self.samples.images)]

    def copies(self, space: Literal["pixels", "features"]) -> Copies:
        """Duplicates of training images among the samples and among the real images, by distance in a space."""
        if space not in self._copies:
            samples, real, reference, train = (
                getattr(described, space) for described in (self.samples, self.real, self.reference, self.train)
            )
            threshold = neighbours(reference, train).closeness.quantile(self.duplicate_quantile).item()
            nearest, floor = neighbours(samples, train), neighbours(real, train)
            rates = Scores(*(share(found.closeness <= threshold) for found in (nearest, floor)))
            self._copies[space] = Copies(nearest, threshold, rates)
        return self._copies[space]


Score = Callable[[Comparison, Described], Estimate | None]


@dataclass(frozen=True)
class Metric:
    """A metric of sample quality.

    Attributes:
        function: Scores the samples or the real images of a comparison. Returns None where the metric does not apply.
        better: Which direction is better.
        sees: What it is sensitive to, in one line.
        catches: The controls (`ddpm.evaluation.controls`) that it must tell from real images.
        headline: Its short name if it is a headline metric. Of several with the same name, the worst counts.
        values: Its minimum and maximum, to which intervals are clipped.
    """

    function: Score
    better: Better
    sees: str
    catches: tuple[str, ...] = ()
    headline: str = ""
    values: tuple[float, float] = (-inf, inf)

    def score(self, comparison: Comparison, images: Described) -> Estimate | None:
        """The score of the samples or the real images of a comparison, or None where the metric does not apply."""
        found, (least, most) = self.function(comparison, images), self.values
        return None if found is None else replace(found, low=max(found.low, least), high=min(found.high, most))

    def tells(self, images: Estimate, floor: Estimate) -> bool:
        """Whether images score significantly worse than real images, given both intervals."""
        higher, lower = (floor, images) if self.better == "higher" else (images, floor)
        margins = higher.value - higher.low, lower.high - lower.value  # they face each other (Newcombe 1998)
        return higher.value - lower.value > (margins[0] ** 2 + margins[1] ** 2) ** 0.5


METRICS: Registry[Metric] = Registry("ddpm.evaluation.metrics", "metric")


def metric(
    module: str,
    better: Better,
    sees: str,
    catches: tuple[str, ...] = (),
    headline: str = "",
    values: tuple[float, float] = (-inf, inf),
) -> Callable[[Score], Score]:
    """Decorator: register a function as the metric of a file.

    The names of metrics that use the classifier end in "classifier".

    Args:
        module: `__name__` of the file.
        better: Which direction is better.
        sees: What it is sensitive to, in one line for tables.
        catches: The controls that it must tell from real images, as checked by stage controls.
        headline: Its short name if it is a headline metric.
        values: Its minimum and maximum, such as `SHARE` or `DISTANCE`.
    """

    def register(score: Score) -> Score:
        METRICS.register(module, Metric(score, better, sees, catches, headline, values))
        return score

    return register


def frequencies(classes: Integer[Tensor, " n"], n_classes: int) -> Float64[Tensor, " classes"]:
    """Share of each class."""
    return classes.long().bincount(minlength=n_classes).double() / len(classes)
