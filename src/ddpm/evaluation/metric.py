"""Metrics of sample quality by name. Each is a file in `metrics/`: a function of a `Comparison`, and what it sees."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Float64, Int64, Integer, Shaped
from torch import Tensor

from ddpm.evaluation.estimate import Scores, estimate
from ddpm.evaluation.neighbours import Neighbours, duplicate_rate, neighbours
from ddpm.registry import Registry
from ddpm.run.seeding import generator

Better = Literal["lower", "higher", "near the floor"]


@dataclass(frozen=True)
class Described:
    """A set of images as metrics see it.

    Attributes:
        pixels: In [0, 1].
        features: Of the classifier.
        classes: What the classifier sees in each image.
        labels: The true class of real images, or the class that samples were asked for; None if there is none.
        inception: Features of Inception; None without its weights.
    """

    pixels: Float[Tensor, "n pixels"]
    features: Float[Tensor, "n features"]
    classes: Int64[Tensor, " n"]
    labels: Integer[Tensor, " n"] | None = None
    inception: Float[Tensor, "n inception"] | None = None


@dataclass(frozen=True)
class Copies:
    """The training images nearest to the samples, in one space. At most `threshold` close counts as a duplicate."""

    nearest: Neighbours
    threshold: float
    rate: Scores


@dataclass(frozen=True)
class Comparison:
    """Samples, and as many real images, held against a reference that neither is part of.

    Attributes:
        samples: The samples.
        real: As many real images that no model was trained on: they give the floor.
        reference: Real images, none of them in `real`.
        train: The training images, for duplicates.
        n_classes: Classes of the data set.
        n_halves: Random halves behind each interval.
        duplicate_quantile: Share of the reference that counts as duplicates of training images.
        seed: Of all that is random.
    """

    samples: Described
    real: Described
    reference: Described
    train: Described
    n_classes: int
    n_halves: int
    duplicate_quantile: float
    seed: int
    _copies: dict[str, Copies] = field(default_factory=dict, init=False, repr=False, compare=False)

    def beside_floor(
        self, score: Callable[[Tensor], float], points: Callable[[Described], Shaped[Tensor, "n *rest"]]
    ) -> Scores:
        """`score` of the samples and of the real images, each with its interval; points: what it takes of a set."""
        sets = (points(described) for described in (self.samples, self.real))
        return Scores(*(estimate(score, found, self.n_halves, self.seed) for found in sets))

    @property
    def equal_reference(self) -> Float[Tensor, "n features"]:
        """Features of as many reference images as samples, at random (Kynkaanniemi et al. 2019 ask for equal sets)."""
        chosen = torch.randperm(len(self.reference.features), generator=generator(self.seed, "reference"))
        return self.reference.features[chosen[: len(self.samples.features)]]

    def copies(self, space: Literal["pixels", "features"]) -> Copies:
        """Duplicates of training images among the samples, by distance in a space."""
        if space not in self._copies:
            samples, real, reference, train = (
                getattr(described, space) for described in (self.samples, self.real, self.reference, self.train)
            )
            threshold = neighbours(reference, train).closeness.quantile(self.duplicate_quantile).item()
            nearest, floor = neighbours(samples, train), neighbours(real, train)
            rates = (
                estimate(partial(duplicate_rate, threshold), found.closeness, self.n_halves, self.seed)
                for found in (nearest, floor)
            )
            self._copies[space] = Copies(nearest, threshold, Scores(*rates))
        return self._copies[space]


@dataclass(frozen=True)
class Metric:
    """A metric of sample quality.

    Attributes:
        scores: The function; None where it does not apply, such as without labels.
        better: Which way is better.
        sees: What it sees, in a line.
    """

    scores: Callable[[Comparison], Scores | None]
    better: Better
    sees: str


METRICS: Registry[Metric] = Registry("ddpm.evaluation.metrics", "metric")


def metric(
    module: str, better: Better, sees: str
) -> Callable[[Callable[[Comparison], Scores | None]], Callable[[Comparison], Scores | None]]:
    """Decorator: make a function the metric of the file `module` (its `__name__`).

    Args:
        module: The file.
        better: Which way is better.
        sees: What it sees, in a line for tables.
    """

    def register(scores: Callable[[Comparison], Scores | None]) -> Callable[[Comparison], Scores | None]:
        METRICS.register(module, Metric(scores, better, sees))
        return scores

    return register


def frequencies(classes: Integer[Tensor, " n"], n_classes: int) -> Float64[Tensor, " classes"]:
    """Share of each class."""
    return classes.long().bincount(minlength=n_classes).double() / len(classes)
