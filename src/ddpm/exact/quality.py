"""Quality of samples of gradient images: their distance from gradients, and their diversity relative to the data."""

from dataclasses import dataclass
from math import log2

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ddpm.data.gradients import LEVELS, gradients, nearest_corners
from ddpm.errors import UserError
from ddpm.images import normalize_img

CELLS = 5  # intervals of 51 levels, so the test counts pairs of corner colours in CELLS x CELLS squares
MIN_PAIRS = 5 * CELLS**2  # rule of thumb for chi-square: at least 5 expected pairs in each square


@dataclass(frozen=True)
class GradientQuality:
    """The quality of a set of samples.

    Attributes:
        distance: RMS distance per pixel to the nearest gradient image, in units of [-1, 1], over all samples.
        corner_error: Wasserstein-1 distance of the corner colours from uniform, in levels of 0..254.
        p_value: p-value of the chi-square test that pairs of corner colours are uniform on the 255 x 255 pairs.
    """

    distance: float
    corner_error: float
    p_value: float


def measure(images: Float[Tensor, "n c h w"]) -> GradientQuality:
    """The quality of images in [-1, 1], by the nearest gradient image of each.

    Raises:
        UserError: n times c is below `MIN_PAIRS`, too few for the test.
    """
    corners = nearest_corners((images.double() + 1) / 2)
    nearest = normalize_img(gradients(corners, *images.shape[-2:]))
    pairs = corners.reshape(-1, 2)
    return GradientQuality(
        distance=(images - nearest).square().mean().sqrt().item(),
        corner_error=corner_error(pairs),
        p_value=uniformity(pairs),
    )


def entropy(height: int, width: int) -> float:
    """The entropy of 8-bit gradient images of at least 2 pixels, in bits per pixel and channel ("bits/dim").

    The first and last pixel are a and b themselves, so all 255^2 pairs remain distinct after rounding to 8 bits.
    """
    return 2 * log2(LEVELS) / (height * width)


def corner_error(corners: Int64[Tensor, "*n"]) -> float:
    """Wasserstein-1 distance between corner colours and the uniform distribution on 0..254, in levels."""
    from scipy.stats import wasserstein_distance  # takes seconds to import

    return float(wasserstein_distance(corners.flatten().cpu(), range(LEVELS)))


def corner_error_floor(n_pairs: int, generator: torch.Generator, repeats: int = 100) -> float:
    """The mean `corner_error` of `n_pairs` pairs from the data distribution: the chance level."""
    draws = torch.randint(LEVELS, (repeats, n_pairs, 2), generator=generator)
    return sum(map(corner_error, draws)) / repeats


def uniformity(pairs: Int64[Tensor, "n 2"]) -> float:
    """p-value of Pearson's chi-square test, on a 5 x 5 grid, that a and b are uniform and independent.

    Raises:
        UserError: There are fewer than `MIN_PAIRS` pairs.
    """
    from scipy.stats import chisquare  # takes seconds to import

    if len(pairs) < MIN_PAIRS:
        raise UserError(
            f"{len(pairs)} pairs of corner colours (samples times channels) are too few to test whether they are "
            f"uniform; need at least {MIN_PAIRS}"
        )
    a, b = (pairs.cpu() // (LEVELS // CELLS)).unbind(-1)
    return float(chisquare(torch.bincount(CELLS * a + b, minlength=CELLS**2)).pvalue)
