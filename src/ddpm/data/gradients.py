"""The toy data: images whose colour runs evenly from one corner to the opposite one."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor


def gradient_images(
    n_images: int, img_size: tuple[int, int, int], generator: torch.Generator | None = None
) -> Float[Tensor, "n c h w"]:
    """Random colour gradients in [0, 1], float32.

    Per image and channel, two corner values a and b are drawn from 0..254; the pixel at relative position g in [0, 1]
    along the diagonal is (a + g (b - a)) / 255.

    img_size: (channels, height, width), each at least 1; ValueError otherwise, or for a negative n_images.
    """
    channels, height, width = img_size
    if n_images < 0 or min(img_size) < 1:
        raise ValueError(f"n_images is {n_images} and img_size {img_size}; need n_images >= 0 and sizes >= 1")
    start, end = torch.randint(0, 255, (2, n_images, channels), generator=generator)
    g = diagonal_position(height, width)
    pixels = rearrange(start, "n c -> n c 1 1") + g * rearrange(end - start, "n c -> n c 1 1")
    return pixels / 255


def diagonal_position(height: int, width: int) -> Float[Tensor, "h w"]:
    """g of each pixel: 0 in the upper left corner, 1 in the lower right one."""
    x = torch.linspace(0, width / (width + height), width)
    y = torch.linspace(0, height / (width + height), height)
    g = rearrange(y, "h -> h 1") + rearrange(x, "w -> 1 w")
    return g / g[-1, -1] if g.numel() > 1 else g
