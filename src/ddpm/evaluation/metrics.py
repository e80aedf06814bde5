"""How far a set of samples is from a set of real images, as numbers with an interval.

Each metric takes what a feature extractor made of the images; the caller's name for it says which extractor.
torchmetrics is imported where it is used, for that takes longer than all else that a stage does to start.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64, Shaped
from torch import Tensor, nn

from ddpm.run.seeding import generator, global_stream

NEIGHBOURS = 3  # k of Kynkaanniemi et al. 2019
KID_SUBSETS, KID_SUBSET_SIZE = 10, 1000


class _Features(nn.Module):
    """What torchmetrics calls a feature extractor, for features that are there already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


@dataclass(frozen=True)
class Estimate:
    """A metric of one set of samples, and where 95 % of other sets of that size would put it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def fid(reference: Float[Tensor, "m d"], samples: Float[Tensor, "n d"]) -> float:
    """Frechet distance of the Gaussians with both sets' means and covariances (Heusel et al. 2017, equation 6).

    Biased upwards by an amount that falls with n: compare only values of equal n, reference and extractor.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Features(samples.shape[1]))
    metric.update(reference.double(), real=True)
    metric.update(samples.double(), real=False)
    return metric.compute().item()


def kid(reference: Float[Tensor, "m d"], samples: Float[Tensor, "n d"], seed: int = 0) -> float:
    """Squared maximum mean discrepancy with the kernel (x.y / d + 1)^3, unbiased (Binkowski et al. 2018, section 4).

    The mean over `KID_SUBSETS` random subsets of at most `KID_SUBSET_SIZE` images of either set; may be below 0.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(KID_SUBSET_SIZE, len(reference), len(samples))
    with warnings.catch_warnings(action="ignore"):  # it says that it will hold all features in memory
        metric = KernelInceptionDistance(feature=_Features(samples.shape[1]), subsets=KID_SUBSETS, subset_size=size)
    metric.update(reference.double(), real=True)
    metric.update(samples.double(), real=False)
    with global_stream(seed, "kid"):
        return metric.compute()[0].item()


def precision(real: Float[Tensor, "m d"], samples: Float[Tensor, "n d"], k: int = NEIGHBOURS) -> float:
    """Share of the samples within the real images' manifold (Kynkaanniemi et al. 2019, equation 2): are they good?"""
    return _in_manifold(samples, real, k).double().mean().item()


def recall(real: Float[Tensor, "m d"], samples: Float[Tensor, "n d"], k: int = NEIGHBOURS) -> float:
    """Share of the real images within the samples' manifold (Kynkaanniemi et al. 2019, equation 2): are they varied?"""
    return _in_manifold(real, samples, k).double().mean().item()


def _in_manifold(points: Float[Tensor, "n d"], others: Float[Tensor, "m d"], k: int) -> Bool[Tensor, " n"]:
    """Whether each point lies no further from one of the others than that one's k-th nearest neighbour among them."""
    points, others = points.double(), others.double()
    radius = torch.cdist(others, others).kthvalue(k + 1, dim=1).values  # the nearest of all is the point itself
    return (torch.cdist(points, others) <= radius).any(dim=1)


def class_distance(real: Float[Tensor, " classes"], classes: Int64[Tensor, " n"]) -> float:
    """Total variation distance between the samples' class histogram and real frequencies: 0 equal, 1 disjoint."""
    return (frequencies(classes, len(real)) - real).abs().sum().item() / 2


def frequencies(classes: Int64[Tensor, " n"], n_classes: int) -> Float64[Tensor, " classes"]:
    """Share of each class."""
    return classes.bincount(minlength=n_classes).double() / len(classes)


def estimate(score: Callable[[Tensor], float], samples: Shaped[Tensor, "n *rest"], rounds: int, seed: int) -> Estimate:
    """`score(samples)` with a 95 % interval of its sampling error, by the half-sample bootstrap.

    The spread of the score over random halves, drawn without replacement, estimates its standard error at n (McCarthy
    1969). The usual bootstrap repeats images, which k-NN manifolds, KID and FID mistake for structure. The interval is
    centred on the value, so it has the bias of the value and of its floor.
    """
    value, n = score(samples), len(samples)
    halves = (torch.randperm(n, generator=generator(seed, "half", i))[: n // 2] for i in range(rounds))
    error = torch.tensor([score(samples[half]) for half in halves], dtype=torch.float64).std().item()
    return Estimate(value, value - 1.96 * error, value + 1.96 * error)
