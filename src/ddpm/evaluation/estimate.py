"""Values with confidence intervals."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from ddpm.run.seeding import generator


@dataclass(frozen=True)
class Estimate:
    """A metric of a set of samples, with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True)
class Scores:
    """A metric of the samples, and its floor: the metric of as many real images, as for a perfect model."""

    samples: Estimate
    floor: Estimate


def estimate(score: Callable[[Tensor], float], points: Shaped[Tensor, "n *rest"], rounds: int, seed: int) -> Estimate:
    """A score with its 95 % confidence interval, by half-sampling.

    The standard deviation of the score over random half-samples, drawn without replacement, estimates its standard
    error at n (McCarthy 1969). The usual bootstrap repeats images, which biases k-NN manifolds, KID and FID. The
    interval is centred on the value and is not corrected for its bias.

    Args:
        score: A function of a subset of the points.
        points: One row per image.
        rounds: Number of half-samples.
        seed: Seed of the half-samples.
    """
    value, n = score(points), len(points)
    halves = (torch.randperm(n, generator=generator(seed, "half", i))[: n // 2] for i in range(rounds))
    error = torch.tensor([score(points[half]) for half in halves], dtype=torch.float64).std().item()
    return Estimate(value, value - 1.96 * error, value + 1.96 * error)


def share(hits: Bool[Tensor, " n"]) -> Estimate:
    """A proportion of independent images, with Wilson's 95 % confidence interval (Wilson 1927).

    Unlike a normal interval, its width is not 0 for a proportion of 0 or 1.

    Args:
        hits: Whether each image counts. Must not be empty.
    """
    from scipy.stats import binomtest  # slow to import

    found = binomtest(int(hits.sum()), len(hits))
    interval = found.proportion_ci(confidence_level=0.95, method="wilson")
    return Estimate(float(found.statistic), float(interval.low), float(interval.high))
