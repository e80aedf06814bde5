"""Sliced Wasserstein distance of patches, at each level of a Laplacian pyramid (Karras et al. 2018, section 5).

A level contains the detail of one scale. Sets of images with similar patches at a level have the same texture at that
scale, whatever the images show.
"""

from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.metric import Comparison, Described
from ddpm.images import from_uint8
from ddpm.run.seeding import generator

N_LEVELS, SIZE = 3, 5
N_PATCHES = 32  # per image and level
N_DIRECTIONS = 64


def pyramid(images: UInt8[Tensor, "n c h w"]) -> list[Float[Tensor, "n c h2 w2"]]:
    """The levels of a Laplacian pyramid (Burt & Adelson 1983), from the finest to the low-pass residual."""
    x, levels = from_uint8(images), []
    for _ in range(N_LEVELS - 1):
        half = [-(-size // 2) for size in x.shape[-2:]]
        coarse = F.interpolate(x, half, mode="bilinear", antialias=True)
        levels.append(x - F.interpolate(coarse, x.shape[-2:], mode="bilinear"))
        x = coarse
    return [*levels, x]


def patches(level: Float[Tensor, "n c h w"], stream: torch.Generator) -> Float[Tensor, "n k d"]:
    """`N_PATCHES` random patches of each image, as rows."""
    every = F.unfold(level, min(SIZE, *level.shape[-2:])).movedim(1, 2)
    chosen = torch.randint(every.shape[1], (len(level), N_PATCHES), generator=stream)
    return every.gather(1, chosen[:, :, None].expand(-1, -1, every.shape[2]))


def sliced_wasserstein(x: Float[Tensor, "n k"], y: Float[Tensor, "n k"]) -> float:
    """The Wasserstein-1 distance of two sets of equal size, averaged over k projections.

    Args:
        x: Projections of one set.
        y: Projections of the other set, each sorted in ascending order, since it is compared with many x.
    """
    return (x.sort(dim=0).values - y).abs().mean().item()


def patch_distance(comparison: Comparison, images: Described, level: int) -> Estimate:
    """The distance between patches of images and of as many reference images, in standard deviations of the latter.

    Args:
        comparison: The comparison that the images are from.
        images: Its samples or its real images.
        level: The level of the pyramid, from 0, the finest.
    """
    chosen = comparison.equal_reference[: len(images.images)]
    reference = patches(pyramid(comparison.reference.images[chosen])[level], generator(comparison.seed, "patches", 1))
    found = patches(pyramid(images.images)[level], generator(comparison.seed, "patches"))
    directions = torch.randn(found.shape[2], N_DIRECTIONS, generator=generator(comparison.seed, "directions"))
    directions /= directions.norm(dim=0) * reference.std()
    x, y = found @ directions, reference @ directions

    @cache
    def in_order(n: int) -> Tensor:
        return y[:n].flatten(0, 1).sort(dim=0).values

    return comparison.estimate(lambda part: sliced_wasserstein(part.flatten(0, 1), in_order(len(part))), x)
