"""The k-nearest-neighbour manifold of a set of features (Kynkaanniemi et al. 2019, equation 1)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NEIGHBOURS = 3  # k in the paper


def in_manifold(points: Float[Tensor, "n d"], others: Float[Tensor, "m d"], k: int = NEIGHBOURS) -> Bool[Tensor, " n"]:
    """Whether each point lies within the k-th-nearest-neighbour distance of one of the others (equation 2)."""
    points, others = points.double(), others.double()
    radius = torch.cdist(others, others).kthvalue(k + 1, dim=1).values  # the nearest of all is the point itself
    return (torch.cdist(points, others) <= radius).any(dim=1)


def share_in_manifold(points: Float[Tensor, "n d"], others: Float[Tensor, "m d"], k: int = NEIGHBOURS) -> float:
    """Share of the points that are `in_manifold`."""
    return in_manifold(points, others, k).double().mean().item()


def density(points: Float[Tensor, "n d"], others: Float[Tensor, "m d"], k: int) -> float:
    """Mean number of the others' k-NN balls that contain a point, divided by k (Naeem et al. 2020).

    It is 1 in expectation if both sets are from the same distribution.
    """
    points, others = points.double(), others.double()
    radius = torch.cdist(others, others).kthvalue(k + 1, dim=1).values
    return (torch.cdist(points, others) <= radius).sum(dim=1).double().mean().item() / k


def coverage(points: Float[Tensor, "n d"], others: Float[Tensor, "m d"], k: int) -> float:
    """Share of the others whose k-NN ball contains at least one of the points (Naeem et al. 2020)."""
    points, others = points.double(), others.double()
    radius = torch.cdist(others, others).kthvalue(k + 1, dim=1).values
    return (torch.cdist(others, points).min(dim=1).values <= radius).double().mean().item()
