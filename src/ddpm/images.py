"""Pixels and numbers: [0, 1] to look at, [-1, 1] to compute with, 8-bit to store."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def normalize_img(img: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Map [0, 1] to [-1, 1], the range that the networks work in (Ho et al. 2020, section 3.3)."""
    return img * 2 - 1


def denormalize_img(img: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Map [-1, 1] back to [0, 1], clamping what lies outside, as a noisy image does."""
    return ((img + 1) / 2).clamp(0, 1)


def to_uint8(img: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Map [0, 1] to the nearest of 0..255."""
    return (img * 255).round().clamp(0, 255).to(torch.uint8)


def from_uint8(img: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Map 0..255 to [0, 1]; the inverse of `to_uint8`."""
    return img.to(torch.get_default_dtype()) / 255


def reconstruction_grid(
    img: Float[Tensor, "b c h w"],
    noised: Float[Tensor, "b c h w"],
    noise: Float[Tensor, "b c h w"],
    noise_pred: Float[Tensor, "b c h w"],
    reconstructed: Float[Tensor, "b c h w"],
) -> Float[Tensor, "b c h2 w3"]:
    """What a noise predictor was given and made of it, one picture an image, in [0, 1].

    Upper row: noised, noise, image; lower row: noised, predicted noise, reconstruction. All arguments are on the
    scale of normalised images; the picture is (batch, channels, 2 height, 3 width).
    """
    truth = torch.cat((noised, noise, img), dim=-1)
    guess = torch.cat((noised, noise_pred, reconstructed), dim=-1)
    return denormalize_img(torch.cat((truth, guess), dim=-2))
