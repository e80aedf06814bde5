"""Distances against closed forms, SciPy and sets that were made by hand."""

from functools import partial

import pytest
import torch
from scipy import linalg
from torch import Tensor

from ddpm.evaluation.metrics import class_distance, estimate, fid, frequencies, kid, precision, recall


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exactly(points: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """The points moved and stretched so that their sample mean and covariance are exactly `mean` and a diagonal."""
    centred = points - points.mean(dim=0)
    white = centred @ torch.linalg.inv(torch.linalg.cholesky(centred.T.cov())).T
    return white * deviation + mean


def test_fid_of_two_gaussians_is_the_closed_form():
    # Diagonal covariances commute: |m1 - m2|^2 + sum (s1 - s2)^2.
    m1, m2 = torch.tensor([0.0, 1.0, 2.0]).double(), torch.tensor([1.0, 1.0, -1.0]).double()
    s1, s2 = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([3.0, 2.0, 0.1]).double()
    expected = (m1 - m2).square().sum() + (s1 - s2).square().sum()
    found = fid(exactly(normal(50, 3, 0), m1, s1), exactly(normal(40, 3, 1), m2, s2))
    assert abs(found - expected.item()) < 1e-9


def test_fid_agrees_with_the_matrix_root_of_scipy():
    a = normal(300, 8, 0) @ normal(8, 8, 1)
    b = normal(200, 8, 2) @ normal(8, 8, 3) + 0.5
    root = linalg.sqrtm(a.T.cov().numpy() @ b.T.cov().numpy()).real
    trace = a.T.cov().trace() + b.T.cov().trace() - 2 * root.trace()
    expected = ((a.mean(0) - b.mean(0)).square().sum() + trace).item()
    assert fid(a, b) == pytest.approx(expected, rel=1e-9)
    assert fid(b, a) == pytest.approx(expected, rel=1e-9)
    assert abs(fid(a, a)) < 1e-9


def test_kid_is_unbiased():
    # Over 60 pairs of sets from one distribution the mean must be 0: within 4 of its own standard errors.
    values = torch.tensor([kid(normal(40, 4, 2 * i), normal(40, 4, 2 * i + 1), seed=i) for i in range(60)])
    assert abs(values.mean()) < 4 * values.std() / 60**0.5
    assert values.min() < 0
    shifted = torch.tensor([kid(normal(40, 4, 2 * i), normal(40, 4, 2 * i + 1) + 1, seed=i) for i in range(10)])
    assert shifted.min() > values.mean() + 4 * values.std()


def test_kid_of_two_sets_is_the_u_statistic():
    # All images in every subset: each pair counted once, without an image's pair with itself.
    x, y = normal(12, 3, 0), normal(12, 3, 1) + 0.3
    kernel = [[[((p @ q) / 3 + 1) ** 3 for q in right] for p in left] for left, right in ((x, x), (y, y), (x, y))]
    within = [sum(k[i][j] for i in range(12) for j in range(12) if i != j) / (12 * 11) for k in kernel[:2]]
    between = sum(sum(row) for row in kernel[2]) / 144
    assert kid(x, y) == pytest.approx((sum(within) - 2 * between).item(), rel=1e-9)


def test_precision_and_recall_of_identical_and_of_disjoint_sets():
    points = normal(60, 5, 0)
    assert precision(points, points) == recall(points, points) == 1
    assert precision(points, points + 100) == recall(points, points + 100) == 0


def test_samples_from_one_of_two_modes_are_precise_and_lack_recall():
    low, high = normal(30, 2, 0), normal(30, 2, 1) + 100
    both = torch.cat((low, high))
    assert precision(both, low) == 1
    assert recall(both, low) == 0.5
    assert precision(low, both) == 0.5
    assert recall(low, both) == 1


def test_the_manifold_reaches_as_far_as_the_kth_neighbour():
    # On a line at 0, 1, 2, 3 with k = 1 each ball has radius 1.
    real = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    samples = torch.tensor([[-1.0], [-1.1], [3.9], [4.2]])
    assert precision(real, samples, k=1) == 0.5


def test_class_distance_is_half_the_sum_of_differences():
    real = torch.tensor([0.5, 0.5, 0.0]).double()
    classes = torch.tensor([0, 0, 0, 2])
    assert frequencies(classes, 3).tolist() == [0.75, 0, 0.25]
    assert class_distance(real, classes) == 0.5
    assert class_distance(real, torch.tensor([0, 1])) == 0


def test_the_interval_covers_as_often_as_it_says():
    # The mean of 80 normal numbers, 200 times: a 95 % interval covers 0 in 190 +- 3; below 180 has probability 1e-3.
    sets = [estimate(lambda x: x.mean().item(), normal(80, 1, i), rounds=50, seed=i) for i in range(200)]
    covered = sum(e.low < 0 < e.high for e in sets)
    assert 178 <= covered <= 198
    widths = torch.tensor([e.high - e.low for e in sets])
    assert widths.mean().item() == pytest.approx(2 * 1.96 / 80**0.5, rel=0.05)


def test_one_seed_gives_one_value():
    x, y = normal(50, 4, 0), normal(30, 4, 1)
    state = torch.get_rng_state()
    first, again, other = (estimate(partial(kid, x, seed=s), y, rounds=3, seed=s) for s in (1, 1, 2))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), state)
