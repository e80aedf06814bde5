"""How good samples of the gradient data are: near to a gradient each, and together as varied as the data."""

from dataclasses import dataclass
from math import log2

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ddpm.data.gradients import LEVELS, gradients, nearest_corners
from ddpm.errors import UserError
from ddpm.images import normalize_img

CELLS = 5  # intervals of 51 levels; the test counts pairs of corner colours in CELLS x CELLS squares
MIN_PAIRS = 5 * CELLS**2  # chi-square's rule of thumb: at least 5 expected in each square


@dataclass(frozen=True)
class GradientQuality:
    """distance: root mean square from a sample to the nearest gradient image, in units of [-1, 1], over all samples.

    corner_error: Wasserstein-1 distance of the nearest gradients' corner colours from uniform, in levels of 0..254.
    p_value: of the chi-square test that pairs of corner colours are uniform on the 255 x 255 pairs.
    """

    distance: float
    corner_error: float
    p_value: float


def measure(images: Float[Tensor, "n c h w"]) -> GradientQuality:
    """The quality of `images` in [-1, 1]; UserError for fewer than `MIN_PAIRS` channels, too few for the test."""
    corners = nearest_corners((images.double() + 1) / 2)
    nearest = normalize_img(gradients(corners, *images.shape[-2:]))
    pairs = corners.reshape(-1, 2)
    return GradientQuality(
        distance=(images - nearest).square().mean().sqrt().item(),
        corner_error=corner_error(pairs),
        p_value=uniformity(pairs),
    )


def entropy(height: int, width: int) -> float:
    """Of gradient images rounded to 8 bits, in bits a pixel and channel ("bits/dim").

    The first and the last of at least 2 pixels are a and b themselves, so that rounding keeps all 255^2 pairs apart.
    """
    return 2 * log2(LEVELS) / (height * width)


def corner_error(corners: Int64[Tensor, "*n"]) -> float:
    """Wasserstein-1 distance between corner colours and the uniform distribution on 0..254."""
    found = corners.flatten().bincount(minlength=LEVELS).double().cumsum(0) / corners.numel()
    uniform = torch.arange(1, LEVELS + 1, dtype=torch.float64) / LEVELS
    return (found.cpu() - uniform).abs().sum().item()


def corner_error_floor(n_pairs: int, generator: torch.Generator, repeats: int = 100) -> float:
    """The mean `corner_error` of `n_pairs` pairs from the data's own distribution: what remains to chance."""
    draws = torch.randint(LEVELS, (repeats, n_pairs, 2), generator=generator)
    return sum(map(corner_error, draws)) / repeats


def uniformity(pairs: Int64[Tensor, "n 2"]) -> float:
    """p-value of Pearson's chi-square test on 5 x 5 squares: are a and b uniform, and independent of each other?"""
    if len(pairs) < MIN_PAIRS:
        raise UserError(
            f"{len(pairs)} pairs of corner colours (samples times channels) are too few to test whether they are "
            f"uniform; need at least {MIN_PAIRS}"
        )
    side = LEVELS // CELLS
    a, b = pairs.cpu().unbind(-1)
    counts = torch.bincount(CELLS * (a // side) + b // side, minlength=CELLS**2).double()
    chi2 = (counts - counts.mean()).square().sum() / counts.mean()
    return torch.special.gammaincc(torch.tensor((CELLS**2 - 1) / 2, dtype=torch.float64), chi2 / 2).item()
