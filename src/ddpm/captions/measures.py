"""Measures of an item on a black background: brightness, contrast and shape.

Every measure maps images in [0, 1], (n, h, w), to one number per image. The item is all pixels brighter than `GROUND`.
The measure of an empty image is 0.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

GROUND = 0.1  # pixels up to this value are background
HEM = 0.6, 0.8  # rows where long sleeves hang next to the body, as fractions of the height
WAIST = 0.35, 0.7  # columns between the ball of the foot and the heel, as fractions of the width


def brightness(images: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Mean of the item's pixels, from 0 to 1."""
    item = images > GROUND
    return (images * item).sum((1, 2)) / item.sum((1, 2)).clamp(min=1)


def contrast(images: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Mean absolute difference of neighbouring pixels, from 0 to 1, excluding the item's outline."""
    inner = 1 - F.max_pool2d(1 - (images > GROUND).float()[:, None], 3, stride=1, padding=1)[:, 0]  # eroded by a pixel
    total, pairs = torch.zeros(len(images)), torch.zeros(len(images))
    for along in (1, 2):
        size = images.shape[along] - 1
        both = inner.narrow(along, 0, size) * inner.narrow(along, 1, size)
        total += (both * images.diff(dim=along).abs()).sum((1, 2))
        pairs += both.sum((1, 2))
    return total / pairs.clamp(min=1)


def breadth(images: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Mean width of the item's rows, divided by its height."""
    item = images > GROUND
    return item.sum((1, 2)) / item.any(2).sum(1).clamp(min=1) ** 2


def stature(images: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Height of the item, divided by its width."""
    item = images > GROUND
    return item.any(2).sum(1) / item.any(1).sum(1).clamp(min=1)


def hem(images: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Distance between the item's left and right edges at the height of the hands, divided by the image's width."""
    first, last = (round(share * images.shape[1]) for share in HEM)
    item = (images > GROUND)[:, first:last]
    spans = item.cummax(2).values & item.flip(2).cummax(2).values.flip(2)
    return spans.float().mean((1, 2))


def arch(images: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Mean height of the middle of a shoe above the floor, divided by the image's height."""
    first, last = (round(share * images.shape[2]) for share in WAIST)
    item = images > GROUND
    below = item.flip(1).cummax(1).values.logical_not().sum(1)  # rows of background below the item, by column
    floor = torch.where(item.any(1), below, images.shape[1]).amin(1, keepdim=True)
    lifted = torch.where(item.any(1), below - floor, 0)
    return lifted[:, first:last].float().mean(1) / images.shape[1]
