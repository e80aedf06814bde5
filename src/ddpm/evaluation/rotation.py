"""Rotation prediction (Gidaris et al. 2018): a task for a classifier of images without labels.

A network that recognises by how many quarter turns an image was rotated has to learn features of its content.
"""

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop

N_TURNS = 4


def rotated(images: UInt8[Tensor, "b c h w"], turns: Int64[Tensor, " b"]) -> UInt8[Tensor, "b c s s"]:
    """The central square of each image, rotated counterclockwise by its number of quarter turns, 0 to 3."""
    square = center_crop(images, [min(images.shape[2:])] * 2)
    every = torch.stack([square.rot90(k, (2, 3)) for k in range(N_TURNS)])
    return every[turns, torch.arange(len(images), device=images.device)]
