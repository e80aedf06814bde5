"""Points on a sphere: their power, and the arc between them in closed form."""

from math import cos, sin

import pytest
import torch

from ddpm.conditioning.sphere import on_sphere, slerp


def at(*angles, radius=1.0):
    """Points on a circle in the first and last of three dimensions."""
    return torch.tensor([[radius * cos(angle), 0.0, radius * sin(angle)] for angle in angles])


def test_on_sphere_gives_unit_power_and_keeps_direction():
    vectors = torch.randn(50, 64, generator=torch.Generator().manual_seed(0)) * 7
    found = on_sphere(vectors)
    torch.testing.assert_close(found.square().mean(1), torch.ones(50))
    torch.testing.assert_close(torch.cosine_similarity(found, vectors), torch.ones(50))
    assert torch.equal(on_sphere(torch.zeros(2, 8)), torch.zeros(2, 8))


@pytest.mark.parametrize("radius", [1.0, 8.0])
def test_slerp_angle_is_proportional_to_weight(radius):
    first, second, weights = at(0.4, radius=radius), at(1.9, radius=radius), torch.tensor([0.0, 0.25, 0.5, 1.0])
    expected = at(*(0.4 + weight * 1.5 for weight in weights.tolist()), radius=radius)
    torch.testing.assert_close(slerp(first, second, weights), expected)


def test_slerp_endpoints_are_exact():
    first, second = (torch.randn(9, 5, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert torch.equal(slerp(first, second, torch.zeros(9)), first)
    assert torch.equal(slerp(first, second, torch.ones(9)), second)


def test_slerp_of_zero_or_parallel_vectors_is_linear():
    first, none = torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2)
    assert torch.equal(slerp(first, none, torch.tensor([0.25])), 0.75 * first)
    torch.testing.assert_close(slerp(first, first, torch.tensor([0.3, 0.6])), first.expand(2, -1))


@pytest.mark.parametrize("seed", range(5))
def test_slerp_of_opposite_vectors_is_linear(seed):
    """They have no unique arc, and the sine of their angle is only a rounding error."""
    first = torch.randn(1, 64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        slerp(first, -first, torch.tensor([0.25, 0.5, 1.0])), first * torch.tensor([[0.5], [0], [-1]])
    )
