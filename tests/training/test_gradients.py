"""Gradients of micro-batches: against autograd on the whole batch, and the same bits for any number of processes."""

from math import fsum

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import in_processes
from torch import nn

from ddpm.training.gradients import BatchGradient, nodes, share

N_IMAGES = 11


def network():
    torch.manual_seed(0)
    convolution = nn.Conv2d(1, 4, 3, padding=1).to(memory_format=torch.channels_last)
    return nn.Sequential(convolution, nn.SiLU(), nn.Flatten(), nn.Linear(4 * 36, 1), nn.Flatten(0))


def data():
    stream = torch.Generator().manual_seed(1)
    scale = 10.0 ** torch.arange(N_IMAGES).remainder(5)  # sums of such losses depend on their order
    return torch.randn(N_IMAGES, 1, 6, 6, generator=stream) * scale.reshape(-1, 1, 1, 1)


def learnt(micro_batches, seen=None):
    """The gradient and the losses, as bytes."""
    model, x = network(), data()

    def losses_of(k, part):
        if seen is not None:
            seen.append(k)
        return model(x[part]).square()

    losses = BatchGradient(model.parameters(), N_IMAGES + 3)(N_IMAGES, micro_batches, losses_of)
    return [weight.grad.numpy().tobytes() for weight in model.parameters()], losses.numpy().tobytes()


@pytest.mark.parametrize("micro_batches", [1, 2, 3, 8, 11, 50])
def test_gradient_is_that_of_the_mean_loss(micro_batches):
    model, x = network().double(), data().double()
    losses = model(x).square()
    losses.mean().backward()
    wanted = [weight.grad.clone() for weight in model.parameters()]

    gradient = BatchGradient(model.float().parameters(), N_IMAGES)
    found = gradient(N_IMAGES, micro_batches, lambda _, part: model(x[part].float()).square())
    torch.testing.assert_close(found.double(), losses, rtol=1e-4, atol=1e-4)
    for weight, expected in zip(model.parameters(), wanted, strict=True):
        assert weight.grad.stride() == weight.stride()  # as fused Adam assumes
        largest = expected.abs().max()
        torch.testing.assert_close(weight.grad.double() / largest, expected / largest, rtol=0, atol=1e-5)  # float32


def test_gradients_do_not_accumulate_across_steps():
    model, x = network(), data()
    gradient = BatchGradient(model.parameters(), N_IMAGES)
    first, second = (
        [
            gradient(N_IMAGES, 3, lambda _, part: model(x[part]).square()).clone(),
            *(w.grad.clone() for w in model.parameters()),
        ]
        for _ in range(2)
    )
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


@pytest.mark.parametrize("micro_batches", [4, 7, 8])
def test_same_bits_for_any_number_of_processes(micro_batches):
    alone = learnt(micro_batches)
    for n in (2, 3, 4, 8):
        if n <= micro_batches:
            assert in_processes(n, lambda: learnt(micro_batches)) == [alone] * n


def test_each_micro_batch_is_computed_once():
    def work():
        seen = []
        learnt(8, seen)
        return seen

    assert in_processes(3, work) == [[0, 1], [2, 3, 4], [5, 6, 7]]


def test_order_of_the_sum_changes_the_bits(monkeypatch):
    """Otherwise equal bits would prove nothing."""

    def all_but_last_and_last(node):
        first, end = node
        return (first, end - 1), (end - 1, end)

    along_a_tree = learnt(8)
    monkeypatch.setattr("ddpm.training.gradients._halves", all_but_last_and_last)
    one_by_one = learnt(8)
    assert one_by_one[0] != along_a_tree[0]
    assert one_by_one[1] == along_a_tree[1]  # the losses, which are not summed


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 12))
def test_nodes_cover_each_micro_batch_once(n, n_processes):
    n_processes = min(n, n_processes)
    found = [node for which in range(n_processes) for node in nodes((0, n), range(n)[share(n, which, n_processes)])]
    assert sorted(k for first, end in found for k in range(first, end)) == list(range(n))


@given(st.integers(1, 1000), st.integers(1, 50))
def test_shares_are_balanced_and_cover_everything(n, of):
    sizes = [len(range(n)[share(n, which, of)]) for which in range(of)]
    assert fsum(sizes) == n
    assert max(sizes) - min(sizes) <= 1
