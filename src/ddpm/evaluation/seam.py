"""How well an inpainted hole fits its surroundings."""

import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from ddpm.images import from_uint8


def seam_error(
    filled: UInt8[Tensor, "n c h w"], images: UInt8[Tensor, "n c h w"], holes: Bool[Tensor, "n 1 h w"]
) -> Float[Tensor, " n"]:
    """Mean absolute error of the pixels of each hole that touch known pixels, from 0 to 1.

    Pixels next to known ones are mostly determined by them, unlike pixels deep in a hole.

    Args:
        filled: The images with the holes filled in.
        images: The true images.
        holes: True where pixels were missing. Must not cover a whole image.
    """
    known = F.pad((~holes).float(), (1, 1, 1, 1))  # beyond the edge nothing is known
    h, w = holes.shape[-2:]
    beside = known[..., :h, 1:-1] + known[..., 2:, 1:-1] + known[..., 1:-1, :w] + known[..., 1:-1, 2:]
    seam = (holes & (beside > 0)).float()
    errors = (from_uint8(filled) - from_uint8(images)).abs().mean(1, keepdim=True)
    return (errors * seam).sum((1, 2, 3)) / seam.sum((1, 2, 3))
