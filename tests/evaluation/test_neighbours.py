"""Planted copies are found, and merely similar images are not reported as copies."""

import torch
from torch import Tensor

from ddpm.evaluation.metric import Comparison, Copies, Described
from ddpm.evaluation.neighbours import neighbours


def normal(n: int, seed: int) -> Tensor:
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(seed))


def test_neighbours_match_brute_force_search():
    queries, reference = normal(300, 0), normal(400, 1)
    squares = (queries[:, None] - reference[None]).double().square().sum(dim=2)
    found = neighbours(queries, reference)
    assert torch.equal(found.index, squares.argmin(dim=1))
    ordered = squares.sqrt().sort(dim=1).values
    assert (found.distance - ordered[:, 0]).abs().max() < 1e-5
    assert (found.closeness - ordered[:, 0] / ordered[:, :50].mean(dim=1)).abs().max() < 1e-5


def test_copies_far_from_the_origin_have_distance_zero():
    # There, distances by matrix products lose all digits.
    reference = normal(200, 0) + 1000
    found = neighbours(reference, reference)
    assert found.index.tolist() == list(range(200))
    assert found.distance.tolist() == found.closeness.tolist() == [0] * 200


def copies(samples: Tensor, floor: Tensor, reference: Tensor, train: Tensor) -> Copies:
    """Duplicates in feature space, at the 1 % quantile."""
    sets = (
        Described(torch.zeros(len(x), 1, 1, 1, dtype=torch.uint8), x, torch.zeros(len(x), dtype=torch.long))
        for x in (samples, floor, reference, train)
    )
    return Comparison(*sets, 1, 10, 0.01, epochs=1, seed=0).copies("features")


def test_planted_copies_are_counted():
    train, reference, floor, samples = normal(500, 0), normal(400, 1), normal(100, 2), normal(100, 3)
    samples[:20] = train[40:60] + 1e-3
    found = copies(samples, floor, reference, train)
    assert found.nearest.index[:20].tolist() == list(range(40, 60))
    assert 0.2 <= found.rate.samples.value <= 0.25  # and of the other 80, about 1 in 100
    assert found.rate.floor.value <= 0.05
    # By its definition: 1 % of the reference, 4 of 400, lies below the threshold.
    assert (neighbours(reference, train).closeness <= found.threshold).sum() == 4


def test_samples_near_the_mean_are_not_copies():
    # Like blurred images, they are nearer to the training images than those are to each other.
    train, reference = normal(500, 0), normal(400, 1)
    samples = 0.1 * normal(100, 2)
    found = copies(samples, reference[:100], reference, train)
    assert found.nearest.distance.mean() < neighbours(reference, train).distance.mean()
    assert found.rate.samples.value == 0
