"""Bottlenecks against torch's distributions, manual gradients, and a search of the codebook."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from ddpm.latent.bottleneck import BOTTLENECKS
from ddpm.latent.bottlenecks.kl import HIGHEST, LOWEST, drawn, kl, moments


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=1):
    return torch.randn(*shape, generator=stream(seed))


def test_kl_matches_torch_distributions():
    mean, log_variance = randn(3, 2, 4, 5), randn(3, 2, 4, 5, seed=2)
    q = Normal(mean, (log_variance / 2).exp())
    expected = kl_divergence(q, Normal(torch.zeros(()), torch.ones(()))).mean(dim=(1, 2, 3))
    torch.testing.assert_close(kl(mean, log_variance), expected)


def test_drawn_latents_have_encoder_mean_and_variance():
    """20,000 draws of N(2, 0.25): the standard error of the mean is 0.0035, and five of these are allowed."""
    mean, log_variance = torch.full((20_000,), 2.0), torch.full((20_000,), 0.25).log()
    z = drawn(mean, log_variance, stream())
    assert abs(z.mean().item() - 2) < 5 * 0.5 / 20_000**0.5
    assert abs(z.std().item() - 0.5) < 5 * 0.5 / 40_000**0.5


def test_reparameterised_gradients_match_closed_form():
    """z = mean + exp(log_variance / 2) noise: dz/dmean = 1, dz/dlog_variance = (z - mean) / 2."""
    mean = randn(6).requires_grad_()
    log_variance = randn(6, seed=2).requires_grad_()
    z = drawn(mean, log_variance, stream())
    z.sum().backward()
    assert mean.grad.tolist() == [1] * 6
    torch.testing.assert_close(log_variance.grad, (z - mean).detach() / 2)


def test_moments_split_channels_and_clamp_log_variance():
    encoded = torch.cat((torch.full((1, 2, 1, 1), 3.0), torch.tensor([-1e9, 1e9]).reshape(1, 2, 1, 1)), dim=1)
    mean, log_variance = moments(encoded)
    assert mean.flatten().tolist() == [3, 3]
    assert log_variance.flatten().tolist() == [LOWEST, HIGHEST]


def test_kl_penalty_is_weighted():
    bottleneck, encoded = BOTTLENECKS["kl"](2, weight=0.5), randn(3, 4, 2, 2)
    _, penalty = bottleneck(encoded, stream())
    torch.testing.assert_close(penalty, kl(*moments(encoded)) / 2)


@pytest.fixture
def vq():
    bottleneck = BOTTLENECKS["vq"](3, n_codes=7, commitment=0.25)
    bottleneck.codes.weight.data = randn(7, 3, seed=3)
    return bottleneck


def test_nearest_code_matches_exhaustive_search(vq):
    z = randn(2, 3, 4, 5)
    distances = torch.cdist(z.permute(0, 2, 3, 1).reshape(-1, 3).double(), vq.codes.weight.double())
    assert torch.equal(vq.nearest(z).flatten(), distances.argmin(1))
    for vector, code in zip(z[1, :, 2].T, vq.decodable(z)[1, :, 2].T, strict=True):
        assert any(torch.equal(code, row) for row in vq.codes.weight)
        nearest = torch.cdist(vector[None], vq.codes.weight).min()
        torch.testing.assert_close((vector - code).norm(), nearest)


def test_vq_uses_straight_through_gradients(vq):
    """By hand: z_q = z + sg(e - z), so dL/dz = dL/dz_q comes from the decoder, and nothing for the codes."""
    z = randn(2, 3, 2, 2).requires_grad_()
    quantised, _ = vq(z, stream())
    assert torch.allclose(quantised, vq.decodable(z))
    weights = randn(2, 3, 2, 2, seed=4)
    (quantised * weights).sum().backward()
    assert torch.equal(z.grad, weights)
    assert vq.codes.weight.grad is None


def test_vq_penalty_gradients_match_closed_form(vq):
    """By hand, with n values per image: d/de = 2 (e - z) / n for each vector of the code, d/dz = beta 2 (z - e) / n."""
    z = randn(1, 3, 2, 2).requires_grad_()
    _, penalty = vq(z, stream())
    penalty.sum().backward()
    e, n = vq.decodable(z).detach(), z.numel()
    torch.testing.assert_close(penalty, (1 + 0.25) * (z - e).square().mean(dim=(1, 2, 3)).detach())
    torch.testing.assert_close(z.grad, 0.25 * 2 * (z.detach() - e) / n)
    expected = torch.zeros(7, 3)
    pulls = 2 * (e - z.detach()) / n
    for number, pull in zip(vq.nearest(z).flatten(), pulls.permute(0, 2, 3, 1).reshape(-1, 3), strict=True):
        expected[number] += pull
    torch.testing.assert_close(vq.codes.weight.grad, expected)


def test_vq_latents_are_unquantised_and_decodable_is_idempotent(vq):
    z = randn(2, 3, 2, 2)
    assert torch.equal(vq.latents(z, stream()), z)
    assert not torch.equal(vq.decodable(z), z)
    assert torch.equal(vq.decodable(vq.decodable(z)), vq.decodable(z))


def test_none_is_the_identity_without_penalty():
    bottleneck, z = BOTTLENECKS["none"](3), randn(2, 3, 2, 2)
    made, penalty = bottleneck(z, stream())
    assert torch.equal(made, z)
    assert penalty.tolist() == [0, 0]
