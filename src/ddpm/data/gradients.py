"""The toy data: linear colour gradients from one corner of the image to the opposite one."""

from math import prod

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from pydantic import model_validator
from torch import Tensor

from ddpm.run.params import Count, PictureShape, Section, check_size

LEVELS = 255  # corner values are 0..254


class GenerateGradients(Section):
    """Section `generate_gradients`.

    Attributes:
        img_shape: (channels, height, width).
        n_train: Number of training images.
        n_held_out: Number of other images, for evaluation.
    """

    img_shape: PictureShape
    n_train: Count
    n_held_out: Count

    @model_validator(mode="after")
    def _images_are_gradients(self) -> "GenerateGradients":
        if prod(self.img_shape[1:]) < 2:
            raise ValueError(f"img_shape is {self.img_shape}; a gradient needs at least 2 pixels")
        for name in ("n_train", "n_held_out"):
            check_size(f"{name} x img_shape", getattr(self, name), *self.img_shape)
        return self


def gradient_images(
    n_images: int, img_size: tuple[int, int, int], generator: torch.Generator | None = None
) -> Float[Tensor, "n c h w"]:
    """Random colour gradients.

    For each image and channel, two corner values a and b are drawn from 0..254. The pixel at relative position g in
    [0, 1] along the diagonal is (a + g (b - a)) / 255.

    Args:
        n_images: Number of images.
        img_size: (channels, height, width).
        generator: Random generator for the corner values, or None for torch's global generator.

    Returns:
        (n, channels, height, width) images in [0, 1], float32.

    Raises:
        ValueError: n_images is negative, or a size is below 1.
    """
    channels, height, width = img_size
    if n_images < 0 or min(img_size) < 1:
        raise ValueError(f"n_images is {n_images} and img_size {img_size}; need n_images >= 0 and sizes >= 1")
    start, end = torch.randint(0, LEVELS, (2, n_images, channels), generator=generator)
    return _between(start, end, diagonal_position(height, width))


def diagonal_position(height: int, width: int, dtype: torch.dtype = torch.float32) -> Float[Tensor, "h w"]:
    """g of each pixel: 0 in the upper left corner, 1 in the lower right one."""
    x = torch.linspace(0, width / (width + height), width, dtype=dtype)
    y = torch.linspace(0, height / (width + height), height, dtype=dtype)
    g = rearrange(y, "h -> h 1") + rearrange(x, "w -> 1 w")
    return g / g[-1, -1] if g.numel() > 1 else g


def nearest_corners(pixels: Float[Tensor, "*n h w"]) -> Int64[Tensor, "*n 2"]:
    """The corner values of the gradient nearest to each channel, by squared distance.

    The result is exact, since for every a, the best b is the integer nearest to the minimum of a parabola.

    Args:
        pixels: Channels of at least 2 pixels. Values may lie outside [0, 1].

    Returns:
        a and b of each channel, in 0..254.
    """
    height, width = pixels.shape[-2:]
    g = diagonal_position(height, width, torch.float64).to(pixels.device)
    u = 1 - g  # the pixel is (a u + b g) / 255
    scaled = LEVELS * pixels.double()
    on_u, on_g = ((scaled * side).sum((-2, -1))[..., None] for side in (u, g))
    uu, ug, gg = (u * u).sum(), (u * g).sum(), (g * g).sum()
    a = torch.arange(LEVELS, dtype=torch.float64, device=pixels.device)
    b = ((on_g - ug * a) / gg).round().clamp(0, LEVELS - 1)
    distance = a * (a * uu + 2 * b * ug - 2 * on_u) + b * (b * gg - 2 * on_g)  # up to a constant
    best = distance.argmin(-1, keepdim=True)
    return torch.cat((best, b.gather(-1, best).long()), dim=-1)


def gradients(corners: Int64[Tensor, "*n 2"], height: int, width: int) -> Float[Tensor, "*n h w"]:
    """The gradient of each pair of corner values, in [0, 1], float64."""
    start, end = corners.unbind(-1)
    return _between(start, end, diagonal_position(height, width, torch.float64).to(corners.device))


def _between(start: Int64[Tensor, "*n"], end: Int64[Tensor, "*n"], g: Float[Tensor, "h w"]) -> Float[Tensor, "*n h w"]:
    return (start[..., None, None] + g * (end - start)[..., None, None]) / LEVELS
