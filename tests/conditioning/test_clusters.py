"""Clusters of images that nobody labelled: against groups that are known, and scipy's own nearest means."""

import torch
from scipy.cluster.vq import vq

from ddpm.conditioning.guidance import draw_cond, encode_cond
from ddpm.conditioning.kinds.clusters import Clusters
from ddpm.images import from_uint8, normalize_img
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.run.seeding import generator

SHAPE = (1, 4, 4)


def clustering(n):
    return {"name": "clusters", "n_clusters": n, "dropout": 0.1}


def grouped(n):
    """Images of three far greys with a little noise, 1/2, 1/4 and 1/4 of them; and the groups."""
    groups = torch.tensor([0, 0, 1, 2]).repeat(n // 4)
    noise = torch.randint(-5, 6, (n, *SHAPE), generator=generator(0, "noise"))
    return (torch.tensor([20, 120, 230])[groups].reshape(-1, 1, 1, 1) + noise).to(torch.uint8), groups


def learnt(images, k=3, seed=0):
    clusters = Clusters(SHAPE, 0, 8, k, 0.1)
    clusters.fit(images, seed)
    return clusters


def test_groups_far_apart_are_found_with_their_frequencies_and_means():
    images, groups = grouped(400)
    # Lloyd's algorithm may leave a group in which it did not start to its neighbour: take a seed that starts in each.
    clusters = next(
        found for found in (learnt(images, seed=seed) for seed in range(20)) if found.frequencies.min() > 0.2
    )
    numbers = clusters.encode(normalize_img(from_uint8(images)), None)
    for group, share in enumerate((0.5, 0.25, 0.25)):
        (number,) = numbers[groups == group].unique().tolist()
        assert clusters.frequencies[number] == share
        mean = normalize_img(from_uint8(images))[groups == group].mean(0)
        assert (clusters.means[number] - mean).abs().max() < 1e-5  # sums of 200 float32
    assert clusters.frequencies.sum() == 1


def test_an_image_is_of_the_cluster_whose_mean_is_nearest():
    images = torch.randint(256, (300, *SHAPE), generator=generator(1, "images"), dtype=torch.uint8)
    clusters, points = learnt(images, k=12), normalize_img(from_uint8(images))
    expected, _ = vq(points.flatten(1).numpy(), clusters.means.flatten(1).numpy())
    assert clusters.encode(points, None).tolist() == expected.tolist()


def test_the_same_seed_finds_the_same_bits():
    images, _ = grouped(200)
    first, second = learnt(images, 7, seed=5), learnt(images, 7, seed=5)
    assert torch.equal(first.means, second.means)
    assert torch.equal(first.frequencies, second.frequencies)


def test_clusters_are_drawn_by_their_frequencies_each_by_its_own_number():
    model = Unet(UnetConfig(SHAPE, 8, (1,), 2, 30, heads=2, conditioning=clustering(3)))
    model.conditioning.frequencies.copy_(torch.tensor([0.6, 0.0, 0.4]))
    drawn = draw_cond(model, 0, range(2000))
    frequencies = drawn.bincount(minlength=3) / 2000
    assert frequencies[1] == 0
    assert abs(frequencies[0] - 0.6) < 0.055  # five standard errors
    assert torch.equal(draw_cond(model, 0, [7, 3]), drawn[[7, 3]])
    assert not torch.equal(draw_cond(model, 1, range(2000)), drawn)


def test_a_network_is_told_of_clusters_classes_or_nothing():
    images, classes = torch.zeros(2, *SHAPE), torch.tensor([5, 6])
    clustered, classed, plain = (
        Unet(UnetConfig(SHAPE, 8, (1,), 2, 30, heads=2, conditioning=conditioning, n_classes=10))
        for conditioning in (clustering(10), {"name": "labels", "dropout": 0.1}, None)
    )
    clustered.conditioning.means.copy_(torch.ones(10, *SHAPE))
    clustered.conditioning.means[4] = 0.1
    assert encode_cond(clustered, images, classes).tolist() == [4, 4]
    assert encode_cond(classed, images, classes).tolist() == [5, 6]
    assert draw_cond(classed, 0, [9, 10, 11]).tolist() == [9, 0, 1]
    assert encode_cond(plain, images, classes) is None
    assert draw_cond(plain, 0, range(2)) is None


def test_a_mixture_is_given_the_mixture_of_its_means_and_nothing_is_grey():
    clusters = Clusters(SHAPE, 0, 8, 2, 0.0).eval()
    clusters.means.copy_(torch.tensor([1.0, -0.5]).reshape(2, 1, 1, 1).expand(2, *SHAPE))
    mixed = clusters.mix(torch.tensor([0]), torch.tensor([1]), torch.tensor([0.0, 0.25, 1.0]))
    shown = clusters(mixed).image
    assert torch.equal(shown[:, 0, 0, 0], torch.tensor([1.0, 0.625, -0.5]))
    assert torch.equal(clusters(clusters.null(torch.tensor([0, 1]))).image, torch.zeros(2, *SHAPE))
    assert torch.equal(clusters(clusters.null(mixed)).image, torch.zeros(3, *SHAPE))
