"""Muon against the singular value decomposition, against torch.optim.Muon, and on a problem with a known answer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ddpm.run.seeding import generator
from ddpm.training.muon import Muon, orthogonalize


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(2, 40), columns=st.integers(2, 40), seed=st.integers(0, 1000))
def test_orthogonalize_keeps_singular_vectors(rows, columns, seed):
    matrix = torch.randn(rows, columns, generator=generator(seed, "muon"), dtype=torch.float64)
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ orthogonalize(matrix) @ vt.T
    values = inside.diagonal()
    assert (inside - torch.diag(values)).abs().max() < 1e-9  # a polynomial in the matrix keeps its singular vectors
    assert values.max() < 1.21  # Jordan's bounds of the quintic's limit cycle, for all but the smallest values
    assert values[s > 0.01 * s.norm()].min() > 0.67


@pytest.mark.parametrize("shape", [(64, 576), (128, 128), (96, 32)])
def test_small_singular_values_are_accurate_in_float32(shape):
    u, _, vt = torch.linalg.svd(torch.randn(shape, generator=generator(0, "muon")).double(), full_matrices=False)
    s = torch.logspace(0, -6, min(shape), dtype=torch.float64)
    value = s / s.norm()
    for _ in range(5):  # the quintic on the singular values themselves
        value = 3.4445 * value - 4.7750 * value**3 + 2.0315 * value**5
    inside = u.T @ orthogonalize(((u * s) @ vt).float()).double() @ vt.T
    # rounding errors of 6e-8 in the Gram matrix grow by at most the quintic's slope at 0, 3.4445, to the tenth: 0.014
    assert (inside - torch.diag(value)).abs().max() < 0.014


@pytest.mark.parametrize("shape", [(6, 20), (20, 6)])
def test_muon_matches_torch(shape):
    start = torch.randn(shape, generator=generator(0, "start"))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    pairs = [(ours, Muon([ours], 0.02)), (theirs, torch.optim.Muon([theirs], lr=0.02, weight_decay=0.0))]
    for step in range(5):
        for parameter, optimizer in pairs:
            parameter.grad = torch.randn(shape, generator=generator(0, "grad", step))
            optimizer.step()
    moved = (theirs - start).abs().max()
    # torch orthogonalises in bf16, accurate to a few percent of a step's length
    assert (ours - theirs).abs().max() < 0.06 * moved


@pytest.mark.parametrize("momentum", [0.95, 0.5])
def test_step_is_orthogonalized_nesterov_momentum(momentum):
    start, *grads = torch.randn(4, 5, 7, generator=generator(0, "grads"), dtype=torch.float64)
    weight = nn.Parameter(start.clone())
    optimizer = Muon([weight], 0.1, momentum)
    expected, average = start, torch.zeros(5, 7, dtype=torch.float64)
    for grad in grads:
        weight.grad = grad
        optimizer.step()
        average = momentum * average + (1 - momentum) * grad
        expected = expected - 0.1 * orthogonalize(momentum * average + (1 - momentum) * grad)
    assert (weight - expected).abs().max() < 1e-12  # float64


@pytest.mark.parametrize(("shape", "factor"), [((4, 16), 1), ((16, 4), 2), ((8, 2, 1, 1), 2)])
def test_step_grows_with_height_to_width_ratio(shape, factor):
    # Singular values of about 1, so that the norm of a step is about lr sqrt(rank), times sqrt(height / width).
    weight = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    weight.grad = torch.eye(shape[0], weight[0].numel(), dtype=torch.float64).reshape(shape)
    Muon([weight], 0.1).step()
    rank = min(shape[0], weight[0].numel())
    assert 0.67 * factor < weight.norm() / (0.1 * rank**0.5) < 1.21 * factor  # bounds of `orthogonalize`


def test_weights_without_gradient_do_not_change():
    weight = nn.Parameter(torch.ones(2, 2))
    Muon([weight], 0.1).step()
    assert (weight == 1).all()


def test_kernels_are_flattened_in_any_memory_format():
    kernel = torch.randn(8, 3, 3, 3, generator=generator(0, "kernel"))
    grad = torch.randn(8, 3, 3, 3, generator=generator(0, "grad"))
    results = []
    for shape, layout in (
        ((8, 27), torch.contiguous_format),
        ((8, 3, 3, 3), torch.contiguous_format),
        ((8, 3, 3, 3), torch.channels_last),
    ):
        parameter = nn.Parameter(kernel.reshape(shape).clone(memory_format=layout))
        parameter.grad = grad.reshape(shape).clone(memory_format=layout)
        Muon([parameter], 0.1).step()
        results.append(parameter.detach().reshape(8, 27))
    assert (results[0] - results[1]).abs().max() < 1e-6
    assert (results[0] - results[2]).abs().max() < 1e-6


def test_muon_solves_least_squares():
    wanted = torch.randn(5, 7, generator=generator(0, "wanted"), dtype=torch.float64)
    weight = nn.Parameter(torch.zeros(5, 7, dtype=torch.float64))
    optimizer = Muon([weight], 0.1)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 300)
        optimizer.zero_grad()
        (weight - wanted).square().sum().backward()
        optimizer.step()
    assert (weight - wanted).abs().max() < 0.01  # steps of constant length shrink with lr alone
