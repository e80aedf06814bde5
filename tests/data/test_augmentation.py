"""Augmentation: every image that comes out is a flip or a shift of the one that went in, and all of them come."""

import pytest
import torch

from ddpm.data.augmentation import augmented

IMAGE = torch.arange(2 * 5 * 7).reshape(1, 2, 5, 7)


def variants(flip, most):
    """By plain slicing of an image whose edge is repeated."""
    found = []
    for start in [IMAGE, IMAGE.flip(3)] if flip else [IMAGE]:
        wide = torch.nn.functional.pad(start.double(), [most] * 4, mode="replicate").long() if most else start
        found += [wide[0, :, i : i + 5, j : j + 7] for i in range(2 * most + 1) for j in range(2 * most + 1)]
    return found


@pytest.mark.parametrize(("flip", "most"), [(True, 0), (False, 1), (True, 2)])
def test_all_flips_and_shifts_come_and_nothing_else(flip, most):
    n = 100 * len(variants(flip, most))  # each is missing with a probability of e^-100
    found, _ = augmented(IMAGE.expand(n, -1, -1, -1), flip, most, torch.Generator().manual_seed(0))
    names = {image.numpy().tobytes(): i for i, image in enumerate(variants(flip, most))}
    counts = torch.tensor([names[image.numpy().tobytes()] for image in found]).bincount(minlength=len(names))
    assert counts.min() > 50  # 100 are expected of each, 5 standard deviations below


def test_each_image_has_its_own_and_the_stream_decides():
    images = torch.rand(50, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    first, again, other = (augmented(images, True, 2, torch.Generator().manual_seed(seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == images.dtype


@pytest.mark.parametrize(("flip", "most"), [(False, 0), (True, 0), (False, 1), (True, 2)])
def test_the_moves_say_how_each_image_was_moved(flip, most):
    n = 20 * len(variants(flip, most))  # each is missing with a probability of e^-20
    found, moves = augmented(IMAGE.expand(n, -1, -1, -1), flip, most, torch.Generator().manual_seed(2))
    for image, (mirrored, down, across) in zip(found, moves.tolist(), strict=True):
        start = IMAGE.flip(3) if mirrored else IMAGE
        wide = torch.nn.functional.pad(start.double(), [most] * 4, mode="replicate").long() if most else start
        i, j = most - round(down * most), most - round(across * most)  # an image that moves down is seen from above
        assert torch.equal(image, wide[0, :, i : i + 5, j : j + 7])
    assert moves.abs().max() <= 1
    assert len(moves.unique(dim=0)) == len(variants(flip, most))
