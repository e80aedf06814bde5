"""Embeddings as points of a sphere: their scale, and the way from one to another."""

from math import sqrt

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

PARALLEL = 1e-4  # an angle below which the arc is as good as straight, and its sine too small to divide by


def on_sphere(vectors: Float[Tensor, "n size"]) -> Float[Tensor, "n size"]:
    """The vectors with length sqrt(size); zeros stay zeros.

    Their numbers then have a mean square of 1, as the noise has. A noise schedule is made for that: of unit vectors,
    whose numbers are of 1 / sqrt(size), the first steps of noise would leave nothing.
    """
    return F.normalize(vectors, dim=1) * sqrt(vectors.shape[1])


def slerp(
    first: Float[Tensor, "#n size"], second: Float[Tensor, "#n size"], weights: Float[Tensor, "#n"]
) -> Float[Tensor, "m size"]:
    """Spherical interpolation: points of the arc between vectors of one length (Shoemake 1985).

    Args:
        first: Vectors, or one.
        second: Others, or one.
        weights: Shares of the second, from 0 to 1, or one. Vectors without an angle between them are mixed in these
            shares.
    """
    weights = weights.to(first)[:, None]
    angle = F.cosine_similarity(first, second, dim=1)[:, None].clamp(-1, 1).acos()
    start, end = ((share * angle).sin() / angle.sin() for share in (1 - weights, weights))
    missing = (first == 0).all(1, keepdim=True) | (second == 0).all(1, keepdim=True)
    straight = torch.lerp(first, second, weights)
    return torch.where((angle < PARALLEL) | missing, straight, start * first + end * second)
