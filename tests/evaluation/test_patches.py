"""Patch distances against SciPy's Wasserstein distance, closed forms and the pyramid's inverse."""

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import wasserstein_distance

from ddpm.evaluation.metric import Comparison, Described
from ddpm.evaluation.patches import N_DIRECTIONS, N_LEVELS, patch_distance, patches, pyramid, sliced_wasserstein
from ddpm.images import from_uint8
from ddpm.run.seeding import generator


def noise(n, shape, seed=0):
    return torch.randint(256, (n, *shape), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 9, 13), (1, 4, 4)])
def test_pyramid_levels_sum_to_the_image(shape):
    images = noise(3, shape)
    *details, x = pyramid(images)
    assert len(details) == N_LEVELS - 1
    for detail in reversed(details):
        x = detail + F.interpolate(x, detail.shape[-2:], mode="bilinear")
    assert torch.allclose(x, from_uint8(images), atol=1e-5)


def test_pyramid_separates_scales():
    checkers = (torch.arange(32)[:, None] + torch.arange(32)) % 2
    waves = torch.cos(torch.arange(32) * 2 * torch.pi / 32).expand(32, 32)
    for images, level in ((checkers, 0), (waves / 2 + 0.5, 2)):
        found = [part.std() for part in pyramid((images * 255).to(torch.uint8)[None, None])]
        assert max(found) == found[level]
        assert found[level] > 1.5 * sorted(found)[-2]


def test_sliced_wasserstein_is_scipys_mean_over_projections():
    x, y = torch.randn(200, 3), torch.randn(200, 3) * 2 + 1
    expected = sum(wasserstein_distance(x[:, i], y[:, i]) for i in range(3)) / 3
    assert sliced_wasserstein(x, y.sort(dim=0).values) == pytest.approx(expected, rel=1e-5)


def test_patches_come_from_all_over_their_own_image():
    images = torch.arange(4).reshape(4, 1, 1, 1).expand(4, 2, 9, 9).float()
    found = patches(images, torch.Generator().manual_seed(0))
    assert found.shape[0] == 4
    assert found.shape[2] == 2 * 5 * 5
    assert all((found[i] == i).all() for i in range(4))
    ramp = torch.arange(81.0).reshape(1, 1, 9, 9)
    corners = patches(ramp, torch.Generator().manual_seed(0))[0, :, 0]
    assert len(corners.unique()) > 10  # from all over the image


@pytest.mark.parametrize("level", range(N_LEVELS))
def test_patch_distance_is_scipys_in_deviations_of_the_reference(level):
    sets = [noise(20, (1, 9, 13)) // 2, noise(20, (1, 9, 13), 1), noise(30, (1, 9, 13), 2), noise(30, (1, 9, 13), 3)]
    described = [Described(images, torch.zeros(len(images), 2), torch.zeros(len(images)).long()) for images in sets]
    c = Comparison(*described, 0, 2, 0.01, epochs=0, seed=4)
    x, y = (
        patches(pyramid(images)[level], generator(4, "patches", *which)).flatten(0, 1)
        for images, which in ((sets[0], ()), (sets[2][c.equal_reference], (1,)))
    )
    directions = torch.randn(x.shape[1], N_DIRECTIONS, generator=generator(4, "directions"))
    units = directions / directions.norm(dim=0)
    distances = [wasserstein_distance(x @ unit, y @ unit) for unit in units.T]
    expected = sum(distances) / N_DIRECTIONS / y.std().item()
    assert patch_distance(c, c.samples, level).value == pytest.approx(expected, rel=1e-4)
