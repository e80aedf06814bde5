"""Conversions between [0, 1], [-1, 1] and 8 bits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm.images import FURTHEST, check_images, denormalize_img, from_uint8, normalize_img, to_uint8


def test_range_ends_map_exactly_and_denormalize_clips():
    assert normalize_img(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-1, 0, 1]
    assert denormalize_img(torch.tensor([-5.0, -1.0, 0.0, 1.0, 3.0])).tolist() == [0, 0, 0.5, 1, 1]


@given(st.lists(st.floats(0, 1, width=32), min_size=1))
def test_denormalize_inverts_normalize(values):
    x = torch.tensor(values)
    assert (denormalize_img(normalize_img(x)) - x).abs().max() < 1e-6


def test_uint8_round_trip_is_exact():
    x = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(from_uint8(x)), x)
    assert to_uint8(torch.tensor([-0.1, 0.499 / 255, 0.501 / 255, 1.2])).tolist() == [0, 0, 1, 255]


def test_images_far_out_of_range_are_rejected_on_both_sides():
    for value in (FURTHEST, -FURTHEST):
        images = torch.zeros(1, 1, 1, 2)
        images[..., 0] = value
        check_images(images, (1, 1, 2), "images")
        low, high = sorted((0, 1.01 * value))
        with pytest.raises(
            ValueError, match=rf"^images has values from {low:g} to {high:g}; they must be in \[-1, 1\]"
        ):
            check_images(1.01 * images, (1, 1, 2), "images")
