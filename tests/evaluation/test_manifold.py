"""Precision, recall, density and coverage against constructed sets and their expectations."""

import pytest
import torch
from evaluation.points import normal
from torch import Tensor

from ddpm.evaluation.manifold import coverage, density, share_in_manifold


def precision_of(real: Tensor, samples: Tensor) -> float:
    return share_in_manifold(samples, real)


def recall_of(real: Tensor, samples: Tensor) -> float:
    return share_in_manifold(real, samples)


def test_precision_and_recall_of_identical_and_disjoint_sets():
    points = normal(60, 5, 0)
    assert precision_of(points, points) == recall_of(points, points) == 1
    assert precision_of(points, points + 100) == recall_of(points, points + 100) == 0


def test_precision_and_recall_with_one_of_two_modes():
    low, high = normal(30, 2, 0), normal(30, 2, 1) + 100
    both = torch.cat((low, high))
    assert precision_of(both, low) == 1
    assert recall_of(both, low) == 0.5
    assert precision_of(low, both) == 0.5
    assert recall_of(low, both) == 1


def test_manifold_radius_is_distance_to_kth_neighbour():
    # On a line at 0, 1, 2, 3 with k = 1 each ball has radius 1.
    real = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    samples = torch.tensor([[-1.0], [-1.1], [3.9], [4.2]])
    assert share_in_manifold(samples, real, k=1) == 0.5


def test_precision_and_recall_use_third_neighbours_by_default():
    """As in Kynkaanniemi et al. 2019. On a line, the distances to the third are 7, 6, 4, 7 and 14."""
    real = torch.tensor([[0.0], [1.0], [3.0], [7.0], [15.0]])
    assert share_in_manifold(torch.tensor([[-6.9], [28.9]]), real) == 1
    assert share_in_manifold(torch.tensor([[-7.1], [29.1]]), real) == 0


def test_density_and_coverage_of_points_on_a_line():
    # On a line at 0, 1, 2, 3 with k = 1 each ball has radius 1.
    real = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    samples = torch.tensor([[0.5], [0.5], [9.0]])
    assert density(samples, real, k=1) == pytest.approx((2 + 2 + 0) / 3)
    assert coverage(samples, real, k=1) == 0.5
    assert coverage(torch.tensor([[1.5]]), real, k=1) == 0.5


def test_density_and_coverage_match_their_expectations():
    # Naeem et al. 2020, section 3.3: density has mean 1, coverage 1 - (M choose k) / (N + M choose k), here 1 - 2^-5.
    values = [(normal(200, 4, 2 * i), normal(200, 4, 2 * i + 1)) for i in range(20)]
    densities, coverages = (torch.tensor([score(x, y, k=5) for x, y in values]) for score in (density, coverage))
    for found, expected in ((densities, 1.0), (coverages, 1 - 2**-5)):
        assert abs(found.mean() - expected) < 4 * found.std() / 20**0.5 + 0.005
