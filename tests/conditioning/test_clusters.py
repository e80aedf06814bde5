"""Clusters of unlabelled images: against known groups and SciPy's nearest means."""

import pytest
import torch
from scipy.cluster.vq import vq

from ddpm.conditioning.kinds.clusters import Clusters
from ddpm.run.seeding import generator

SHAPE = (1, 4, 4)


def grouped(n):
    """Noised images of three distinct greys, in shares of 1/2, 1/4 and 1/4, and their groups."""
    groups = torch.tensor([0, 0, 1, 2]).repeat(n // 4)
    noise = 0.04 * torch.rand(n, *SHAPE, generator=generator(0, "noise"))
    return torch.tensor([-0.8, 0.0, 0.8])[groups].reshape(-1, 1, 1, 1) + noise, groups


def clusters(k=3):
    return Clusters(SHAPE, n_classes=0, embedding_size=8, n_clusters=k, dropout=0.1).eval()


def fitted(images, k=3, seed=0):
    conditioning = clusters(k)
    conditioning.fit(images, seed)
    return conditioning


def test_fit_finds_separated_groups_with_means_and_frequencies():
    images, groups = grouped(400)
    # Lloyd's algorithm starts from three of the images. Unless they are from different groups, two groups may share a
    # cluster. They are from all three with probability 3! / 2 / 4 / 4 = 0.19, so 200 seeds are more than enough.
    found = (fitted(images, seed=seed) for seed in range(200))
    conditioning = next(conditioning for conditioning in found if conditioning.frequencies.min() > 0.2)
    numbers = conditioning.encode(images, None)
    for group, frequency in enumerate((0.5, 0.25, 0.25)):
        (number,) = numbers[groups == group].unique().tolist()
        assert conditioning.frequencies[number] == frequency
        mean = images[groups == group].mean(0)
        assert (conditioning.means[number] - mean).abs().max() < 1e-5  # sums of 200 float32
    assert conditioning.frequencies.sum() == 1


def test_encode_assigns_the_nearest_mean():
    images = torch.rand(300, *SHAPE, generator=generator(1, "images")) * 2 - 1
    conditioning = fitted(images, k=12)
    expected, _ = vq(images.flatten(1).numpy(), conditioning.means.flatten(1).numpy())
    assert conditioning.encode(images, None).tolist() == expected.tolist()


def test_fit_is_deterministic_for_a_seed():
    images, _ = grouped(200)
    first, second, other = (fitted(images, 7, seed) for seed in (5, 5, 6))
    assert torch.equal(first.means, second.means)
    assert torch.equal(first.frequencies, second.frequencies)
    assert not torch.equal(first.means, other.means)


def test_empty_clusters_are_never_drawn():
    # With two distinct images, five clusters start from duplicates, most of which stay empty.
    images = torch.tensor([0.5, 0.5, 0.5, 0.5, -0.5]).reshape(-1, 1, 1, 1).expand(5, *SHAPE)
    conditioning = fitted(images, k=5)
    assert sorted(conditioning.frequencies.tolist()) == pytest.approx([0, 0, 0, 0.2, 0.8])
    assert conditioning.means.isfinite().all()
    drawn = conditioning.draw(0, range(200)).unique()
    assert (conditioning.frequencies[drawn] > 0).all()
    assert conditioning.frequencies[conditioning.encode(images, None)].tolist() == pytest.approx([0.8] * 4 + [0.2])


def test_clusters_are_drawn_by_their_frequencies():
    conditioning = clusters()
    conditioning.frequencies.copy_(torch.tensor([0.6, 0.0, 0.4]))
    drawn = conditioning.draw(0, range(2000))
    frequencies = drawn.bincount(minlength=3) / 2000
    assert frequencies[1] == 0
    assert abs(frequencies[0] - 0.6) < 0.055  # five standard errors
    assert not torch.equal(conditioning.draw(1, range(2000)), drawn)


def test_image_is_the_cluster_mean_or_grey_for_null():
    conditioning = clusters()
    conditioning.means.copy_(torch.tensor([1.0, -0.5, 0.25]).reshape(3, 1, 1, 1).expand(3, *SHAPE))
    shown = conditioning(torch.tensor([2, 0, 3])).image
    assert shown.shape == (3, *SHAPE)
    assert torch.equal(shown[:, 0, 0, 0], torch.tensor([0.25, 1.0, 0.0]))
    assert conditioning.null(torch.tensor([0, 1])).tolist() == [3, 3]
    with pytest.raises(IndexError):
        conditioning(torch.tensor([4]))


def test_mix_interpolates_cluster_means():
    conditioning = clusters(2)
    conditioning.means.copy_(torch.tensor([1.0, -0.5]).reshape(2, 1, 1, 1).expand(2, *SHAPE))
    mixed = conditioning.mix(torch.tensor([0]), torch.tensor([1]), torch.tensor([0.0, 0.25, 1.0]))
    assert torch.equal(conditioning(mixed).image[:, 0, 0, 0], torch.tensor([1.0, 0.625, -0.5]))
    assert torch.equal(conditioning(conditioning.null(mixed)).image, torch.zeros(3, *SHAPE))
