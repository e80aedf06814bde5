"""Gradient images against their definition: a + g (b - a), with corners from 0..254."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from ddpm.data.gradients import gradient_images, gradients, nearest_corners
from ddpm.run.seeding import generator


@given(st.integers(0, 4), st.integers(1, 3), st.integers(1, 7), st.integers(1, 7))
def test_pixels_interpolate_between_corners(n, c, h, w):
    images = gradient_images(n, (c, h, w), generator(0, "g"))
    assert images.shape == (n, c, h, w)
    assert images.dtype == torch.float32
    a, b = images[..., :1, :1], images[..., -1:, -1:]
    # x runs over [0, w / (w + h)], y over [0, h / (w + h)]. Both are rescaled so that the last corner is 1.
    x = torch.tensor([j / max(w - 1, 1) * w for j in range(w)])
    y = torch.tensor([i / max(h - 1, 1) * h for i in range(h)])
    g = (y[:, None] + x[None, :]) / max((w if w > 1 else 0) + (h if h > 1 else 0), 1)
    if n:
        assert (images - (a + g * (b - a))).abs().max() < 1e-6  # float32 rounding


def test_corners_are_uniform_on_255_values():
    images = gradient_images(40_000, (1, 2, 2), generator(0, "corners"))
    for corner in (images[:, 0, 0, 0], images[:, 0, -1, -1]):
        values = (corner * 255).round().long()
        assert (corner * 255 - values).abs().max() < 1e-4
        assert values.min() == 0
        assert values.max() == 254
        assert chisquare(torch.bincount(values, minlength=255).numpy()).pvalue > 1e-3


@pytest.mark.parametrize(("n", "size"), [(-1, (3, 4, 5)), (1, (0, 4, 5)), (1, (3, 4, 0))])
def test_gradient_images_rejects_invalid_sizes(n, size):
    with pytest.raises(ValueError, match="need n_images >= 0 and sizes >= 1"):
        gradient_images(n, size)


@pytest.mark.parametrize("size", [(2, 3), (1, 2), (4, 5)])
def test_nearest_corners_match_exhaustive_search(size):
    pairs = torch.cartesian_prod(torch.arange(255), torch.arange(255))
    everything = gradients(pairs, *size)
    x = torch.randn(6, *size, generator=generator(0, "images"), dtype=torch.float64)  # far outside [0, 1], too
    found = gradients(nearest_corners(x), *size)
    for image, ours in zip(x, found, strict=True):
        best = (everything - image).square().sum((-2, -1)).min()
        assert abs((ours - image).square().sum() - best) < 1e-10


def test_nearest_corners_invert_gradients():
    pairs = torch.randint(255, (50, 2), generator=generator(0, "pairs"))
    assert torch.equal(nearest_corners(gradients(pairs, 4, 5)), pairs)
    images = gradient_images(20, (3, 4, 5), generator(0, "images"))
    assert (gradients(nearest_corners(images), 4, 5) - images).abs().max() < 1e-6  # float32 rounding
