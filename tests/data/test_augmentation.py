"""Augmentation: every output is a flip or a shift of its input, and all of them occur."""

import pytest
import torch

from ddpm.data.augmentation import augmented

IMAGE = torch.arange(2 * 5 * 7).reshape(1, 2, 5, 7)


def variants(flip, most):
    """By slicing an image whose edges are repeated."""
    found = []
    for start in [IMAGE, IMAGE.flip(3)] if flip else [IMAGE]:
        wide = torch.nn.functional.pad(start.double(), [most] * 4, mode="replicate").long() if most else start
        found += [wide[0, :, i : i + 5, j : j + 7] for i in range(2 * most + 1) for j in range(2 * most + 1)]
    return found


@pytest.mark.parametrize(("flip", "most"), [(True, 0), (False, 1), (True, 2)])
def test_augmented_draws_exactly_all_flips_and_shifts(flip, most):
    n = 100 * len(variants(flip, most))  # each is missing with a probability of e^-100
    found, _ = augmented(IMAGE.expand(n, -1, -1, -1), flip, most, torch.Generator().manual_seed(0))
    names = {image.numpy().tobytes(): i for i, image in enumerate(variants(flip, most))}
    counts = torch.tensor([names[image.numpy().tobytes()] for image in found]).bincount(minlength=len(names))
    assert counts.min() > 50  # 100 are expected of each, 5 standard deviations below


def test_augmented_is_deterministic_and_keeps_dtype():
    images = torch.rand(50, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    first, again, other = (augmented(images, True, 2, torch.Generator().manual_seed(seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == images.dtype


@pytest.mark.parametrize(("flip", "most"), [(False, 0), (True, 0), (False, 1), (True, 2)])
def test_moves_describe_the_applied_flip_and_shift(flip, most):
    n = 20 * len(variants(flip, most))  # each is missing with a probability of e^-20
    found, moves = augmented(IMAGE.expand(n, -1, -1, -1), flip, most, torch.Generator().manual_seed(2))
    for image, (mirrored, down, across) in zip(found, moves.tolist(), strict=True):
        start = IMAGE.flip(3) if mirrored else IMAGE
        wide = torch.nn.functional.pad(start.double(), [most] * 4, mode="replicate").long() if most else start
        i, j = most - round(down * most), most - round(across * most)  # moving down shows more of the top edge
        assert torch.equal(image, wide[0, :, i : i + 5, j : j + 7])
    assert moves.abs().max() <= 1
    assert len(moves.unique(dim=0)) == len(variants(flip, most))
