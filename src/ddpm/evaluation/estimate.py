"""A number with the interval of its sampling error."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from ddpm.run.seeding import generator


@dataclass(frozen=True)
class Estimate:
    """A metric of one set of samples, and where 95 % of other sets of that size would put it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True)
class Scores:
    """A metric of the samples, and of as many real images: its floor, what a perfect model would get."""

    samples: Estimate
    floor: Estimate


def estimate(score: Callable[[Tensor], float], points: Shaped[Tensor, "n *rest"], rounds: int, seed: int) -> Estimate:
    """Take a score with its 95 % interval, by the half-sample bootstrap.

    The spread of the score over random halves, drawn without replacement, estimates its standard error at n (McCarthy
    1969). The usual bootstrap repeats images, which k-NN manifolds, KID and FID mistake for structure. The interval is
    centred on the value, so it has the bias of the value.

    Args:
        score: A function of some of the points.
        points: One row an image.
        rounds: Number of halves.
        seed: Of the halves.
    """
    value, n = score(points), len(points)
    halves = (torch.randperm(n, generator=generator(seed, "half", i))[: n // 2] for i in range(rounds))
    error = torch.tensor([score(points[half]) for half in halves], dtype=torch.float64).std().item()
    return Estimate(value, value - 1.96 * error, value + 1.96 * error)


def share(hits: Bool[Tensor, " n"]) -> Estimate:
    """The share of independent images that something holds for, with Wilson's 95 % interval (Wilson 1927).

    Unlike a standard error, it does not shrink to nothing where none or all of the images are hit.

    Args:
        hits: Whether it holds, one an image, of at least one.
    """
    from scipy.stats import binomtest  # slow to import

    found = binomtest(int(hits.sum()), len(hits))
    interval = found.proportion_ci(confidence_level=0.95, method="wilson")
    return Estimate(float(found.statistic), float(interval.low), float(interval.high))
