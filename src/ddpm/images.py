"""Pixel ranges: [0, 1] for display, [-1, 1] for networks, 8-bit for storage."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

# Maps a network's samples, such as latents, to images in [-1, 1].
Decode: TypeAlias = Callable[[Float[Tensor, "n c h w"]], Float[Tensor, "n c2 h2 w2"]]
FURTHEST = 1.5  # largest accepted magnitude: samples may exceed [-1, 1] slightly, 8-bit values are far outside


def normalize_img(img: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Map [0, 1] to [-1, 1], the range of network inputs (Ho et al. 2020, section 3.3)."""
    return img * 2 - 1


def denormalize_img(img: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Map [-1, 1] to [0, 1], and clamp values outside, which noised images have."""
    return ((img + 1) / 2).clamp(0, 1)


def to_uint8(img: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Map [0, 1] to the nearest of the levels 0..255."""
    return (img * 255).round().clamp(0, 255).to(torch.uint8)


def from_uint8(img: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Map the levels 0..255 to [0, 1], the inverse of `to_uint8`."""
    return img.to(torch.get_default_dtype()) / 255


def as_it_is(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """The identity, which is the `Decode` of networks that generate images."""
    return images


def check_images(images: Tensor, img_shape: tuple[int, ...], name: str) -> None:
    """Check a batch of images passed by the user.

    Args:
        images: (n, c, h, w), in [-1, 1].
        img_shape: (c, h, w) of the network's images.
        name: The name of the argument.

    Raises:
        ValueError: Their shape, dtype or range is wrong.
    """
    if tuple(images.shape[1:]) != tuple(img_shape) or images.ndim != 4:
        expected = ", ".join(("n", *map(str, img_shape)))
        raise ValueError(f"{name} has shape {tuple(images.shape)}; this network takes ({expected})")
    if not images.is_floating_point():
        raise ValueError(f"{name} has type {images.dtype}; it must be floats in [-1, 1]: normalize_img(images / 255)")
    if len(images) and not images.abs().max() <= FURTHEST:
        low, high = images.min().item(), images.max().item()
        raise ValueError(f"{name} has values from {low:g} to {high:g}; they must be in [-1, 1]: see normalize_img")


def reconstruction_grid(
    img: Float[Tensor, "b c h w"],
    noised: Float[Tensor, "b c h w"],
    noise: Float[Tensor, "b c h w"],
    noise_pred: Float[Tensor, "b c h w"],
    reconstructed: Float[Tensor, "b c h w"],
) -> Float[Tensor, "b c h2 w3"]:
    """For each image, a picture that compares a network's prediction with the truth.

    Upper row: x_t, noise, image. Lower row: x_t, predicted noise, reconstruction.

    Args:
        img: x_0 in [-1, 1].
        noised: x_t.
        noise: The noise in x_t.
        noise_pred: The predicted noise.
        reconstructed: The estimate of x_0.

    Returns:
        Pictures in [0, 1], (batch, channels, 2 * height, 3 * width).
    """
    truth = torch.cat((noised, noise, img), dim=-1)
    guess = torch.cat((noised, noise_pred, reconstructed), dim=-1)
    return denormalize_img(torch.cat((truth, guess), dim=-2))
