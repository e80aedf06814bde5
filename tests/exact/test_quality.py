"""Measures of gradient samples: against their definitions, and on samples with known answers."""

from math import log2

import pytest
import torch

from ddpm.data.gradients import gradient_images, gradients
from ddpm.errors import UserError
from ddpm.exact.quality import corner_error, corner_error_floor, entropy, measure, uniformity
from ddpm.images import normalize_img, to_uint8
from ddpm.run.seeding import generator


def test_gradient_images_have_near_perfect_quality():
    quality = measure(normalize_img(gradient_images(1000, (3, 4, 5), generator(0, "data"))))
    assert quality.distance < 1e-6  # float32 rounding
    assert quality.p_value > 1e-3  # the level of the test
    # One seed in a thousand exceeds 1,000 sets of uniform colours.
    others = torch.randint(255, (1000, 6000), generator=generator(0, "uniform"))
    assert quality.corner_error < max(map(corner_error, others))


def test_distance_is_noise_not_explained_by_a_gradient():
    x0 = normalize_img(gradient_images(800, (3, 4, 5), generator(0, "data")))
    noisy = x0 + 0.05 * torch.randn(x0.shape, generator=generator(0, "noise"))
    # Of the noise of 20 pixels, the nearest gradient absorbs 2 dimensions, up to rounding to whole levels. 1,200
    # channels of 18 values have a standard error of 0.5 %.
    expected = 0.05 * (18 / 20) ** 0.5
    assert abs(measure(noisy[:400]).distance / expected - 1) < 0.025
    # It is a root mean square over all samples: if half are perfect, it is not halved.
    half = torch.cat((noisy[:400], x0[400:]))
    assert abs(measure(half).distance / (expected / 2**0.5) - 1) < 0.025


def test_corner_error_is_distance_between_distributions():
    assert corner_error(torch.arange(255)) == pytest.approx(0, abs=1e-12)
    assert corner_error(torch.zeros(10, dtype=torch.long)) == pytest.approx(127)  # the mean of 0..254
    assert corner_error(torch.arange(255).clamp(min=10)) == pytest.approx(55 / 255)  # 10 + 9 + ... + 1 levels moved


def test_uniformity_and_corner_error_match_definitions():
    pairs = torch.randint(255, (200, 2), generator=generator(0, "pairs"))
    for found in (pairs, pairs // 2, pairs**2 // 254):
        counts = torch.histogramdd(found.double(), [5, 5], range=[0.0, 255.0, 0.0, 255.0]).hist
        chi2 = ((counts - 200 / 25) ** 2 / (200 / 25)).sum()
        p_value = torch.special.gammaincc(torch.tensor(24 / 2).double(), chi2 / 2)
        assert uniformity(found) == pytest.approx(p_value.item(), rel=1e-9)
        levels = torch.arange(255)
        below = (found.flatten()[:, None] <= levels).double().mean(0)  # the empirical distribution function
        assert corner_error(found) == pytest.approx((below - (levels.double() + 1) / 255).abs().sum().item(), rel=1e-9)


def test_corner_error_floor_matches_theory():
    # For large n, E|F_n - F| is sqrt(2 F (1 - F) / (pi n)), with integral 255 sqrt(2 / (pi n)) pi / 8 over 255 levels.
    expected = 255 * (2 / (torch.pi * 2000)) ** 0.5 * torch.pi / 8
    # The standard deviation of one W1 is about 40 % of its mean, that of a mean of 100 is 4 %.
    assert abs(corner_error_floor(1000, generator(0, "floor")) / expected - 1) < 0.16
    first, again, other = (corner_error_floor(10, generator(seed, "floor"), repeats=2) for seed in (0, 0, 1))
    assert first == again != other


def test_uniformity_detects_dependent_colours():
    a = torch.randint(255, (500,), generator=generator(0, "colours"))
    assert uniformity(torch.stack((a, torch.randint(255, (500,), generator=generator(1, "colours"))), 1)) > 1e-3
    assert uniformity(torch.stack((a, (a + 40) % 255), 1)) < 1e-9


@pytest.mark.parametrize(("height", "width"), [(1, 2), (2, 3)])
def test_entropy_counts_distinct_images(height, width):
    pairs = torch.cartesian_prod(torch.arange(255), torch.arange(255))
    different = to_uint8(gradients(pairs, height, width)).flatten(1).unique(dim=0)
    assert entropy(height, width) * height * width == pytest.approx(log2(len(different)))  # all equally likely


def test_uniformity_has_nominal_level():
    draws = torch.randint(255, (400, 130, 2), generator=generator(0, "level"))
    rejected = sum(uniformity(pairs) < 0.05 for pairs in draws)
    assert abs(rejected - 20) < 4.5 * (400 * 0.05 * 0.95) ** 0.5 + 4  # chi-square is approximate at 5 a bin


def test_measure_rejects_too_few_samples():
    with pytest.raises(UserError, match=r"123 pairs .* too few .* at least 125"):
        measure(torch.zeros(41, 3, 4, 5))
