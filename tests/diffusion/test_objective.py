"""The bound's pieces against torch.distributions and against what a probability must be."""

import torch
from torch.distributions import Normal, kl_divergence

from ddpm.diffusion.objective import decoder_log_likelihood, gaussian_kl
from ddpm.seeding import generator

LEVELS = torch.arange(256, dtype=torch.float64) / 255 * 2 - 1


def test_gaussian_kl_is_that_of_torch_distributions():
    mean_q, mean_p = torch.randn(2, 3, 4, generator=generator(0, "means"), dtype=torch.float64)
    for variance_q, variance_p in ((0.3, 0.3), (1e-3, 0.02), (2.0, 0.5)):
        theirs = kl_divergence(Normal(mean_q, variance_q**0.5), Normal(mean_p, variance_p**0.5))
        assert (gaussian_kl(mean_q, variance_q, mean_p, variance_p) / theirs - 1).abs().max() < 1e-12


def test_the_decoders_probabilities_sum_to_1():
    for mean in (-1.4, -1.0, 0.003, 0.7, 1.0, 3.0):
        for variance in (1e-5, 1e-3, 0.5):
            log_p = decoder_log_likelihood(LEVELS, torch.full((256,), mean, dtype=torch.float64), variance)
            assert (log_p.exp().sum() - 1).abs() < 1e-12


def test_the_decoder_is_the_gaussians_mass_in_the_bin():
    gaussian = Normal(torch.tensor(0.1, dtype=torch.float64), 0.05)
    log_p = decoder_log_likelihood(LEVELS, torch.full((256,), 0.1, dtype=torch.float64), 0.05**2)
    inner = slice(110, 170)  # near the mean, where a difference of cdf's keeps its digits
    theirs = gaussian.cdf(LEVELS[inner] + 1 / 255) - gaussian.cdf(LEVELS[inner] - 1 / 255)
    assert (log_p[inner].exp() / theirs - 1).abs().max() < 1e-9


def test_far_from_the_mean_it_is_the_density_and_stays_finite():
    # 100 to 500 standard deviations away: log p is about the log density at the bin's near edge, whatever the side.
    mean, sigma = torch.zeros(2, dtype=torch.float64), 1e-3
    log_p = decoder_log_likelihood(LEVELS[[70, 185]], mean, sigma**2)
    edge = (LEVELS[185] - 1 / 255) / sigma
    expected = -(edge**2) / 2 - torch.log(edge * (2 * torch.pi) ** 0.5)
    assert (log_p - expected).abs().max() < 1e-3  # the tail's next term is 1 / edge^2
