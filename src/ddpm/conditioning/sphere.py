"""Embeddings as points on a sphere: normalisation and spherical interpolation."""

from math import sqrt

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SMALLEST_SINE = 1e-3  # of the angle, below which division by the sine is inaccurate


def on_sphere(vectors: Float[Tensor, "n size"]) -> Float[Tensor, "n size"]:
    """The vectors scaled to length sqrt(size). Zero vectors are unchanged.

    Their components then have a mean square of 1, like the noise, as noise schedules assume. Unit vectors, whose
    components are about 1 / sqrt(size), would be destroyed by the first steps of noise.
    """
    return F.normalize(vectors, dim=1) * sqrt(vectors.shape[1])


def slerp(
    first: Float[Tensor, "#n size"], second: Float[Tensor, "#n size"], weights: Float[Tensor, "#n"]
) -> Float[Tensor, "m size"]:
    """Spherical linear interpolation between vectors of equal length (Shoemake 1985).

    Args:
        first: One or several vectors.
        second: One or several vectors.
        weights: One or several weights of the second vector, from 0 to 1. If the vectors are parallel or opposite, or
            one is zero, the interpolation is linear.
    """
    weights = weights.to(first)[:, None]
    angle = F.cosine_similarity(first, second, dim=1)[:, None].clamp(-1, 1).acos()
    start, end = ((share * angle).sin() / angle.sin() for share in (1 - weights, weights))
    missing = (first == 0).all(1, keepdim=True) | (second == 0).all(1, keepdim=True)
    straight = torch.lerp(first, second, weights)
    return torch.where((angle.sin() < SMALLEST_SINE) | missing, straight, start * first + end * second)
