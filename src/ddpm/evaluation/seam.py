"""How well a filled hole goes with what is around it."""

import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from ddpm.images import from_uint8


def seam_error(
    filled: UInt8[Tensor, "n c h w"], images: UInt8[Tensor, "n c h w"], holes: Bool[Tensor, "n 1 h w"]
) -> Float[Tensor, " n"]:
    """Mean absolute error of the pixels of each hole that touch known ones, from 0 to 1.

    What stands beside a known pixel is mostly determined by it; what is deep in a hole is free.

    Args:
        filled: With the holes filled in.
        images: The true images.
        holes: True where pixels were missing; not the whole image.
    """
    known = F.pad((~holes).float(), (1, 1, 1, 1))  # beyond the edge nothing is known
    h, w = holes.shape[-2:]
    beside = known[..., :h, 1:-1] + known[..., 2:, 1:-1] + known[..., 1:-1, :w] + known[..., 1:-1, 2:]
    seam = (holes & (beside > 0)).float()
    errors = (from_uint8(filled) - from_uint8(images)).abs().mean(1, keepdim=True)
    return (errors * seam).sum((1, 2, 3)) / seam.sum((1, 2, 3))
