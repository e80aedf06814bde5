"""The terms of the bound against torch.distributions and the laws of probability."""

import torch
from torch.distributions import Normal, kl_divergence

from ddpm.diffusion.bound import bound_term, decoder_log_likelihood, gaussian_kl
from ddpm.diffusion.forward import add_noise
from ddpm.diffusion.posterior import posterior_mean, posterior_variance, reverse_variance
from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.run.seeding import generator

LEVELS = torch.arange(256, dtype=torch.float64) / 255 * 2 - 1


def test_gaussian_kl_matches_torch_distributions():
    mean_q, mean_p = torch.randn(2, 3, 4, generator=generator(0, "means"), dtype=torch.float64)
    for variance_q, variance_p in ((0.3, 0.3), (1e-3, 0.02), (2.0, 0.5)):
        theirs = kl_divergence(Normal(mean_q, variance_q**0.5), Normal(mean_p, variance_p**0.5))
        assert (gaussian_kl(mean_q, variance_q, mean_p, variance_p) / theirs - 1).abs().max() < 1e-12


def test_decoder_probabilities_sum_to_1():
    for mean in (-1.4, -1.0, 0.003, 0.7, 1.0, 3.0):
        for variance in (1e-5, 1e-3, 0.5):
            log_p = decoder_log_likelihood(LEVELS, torch.full((256,), mean, dtype=torch.float64), variance)
            assert (log_p.exp().sum() - 1).abs() < 1e-12


def test_decoder_likelihood_is_gaussian_mass_of_the_bin():
    gaussian = Normal(torch.tensor(0.1, dtype=torch.float64), 0.05)
    log_p = decoder_log_likelihood(LEVELS, torch.full((256,), 0.1, dtype=torch.float64), 0.05**2)
    inner = slice(110, 170)  # near the mean, where a difference of cdf's keeps its digits
    theirs = gaussian.cdf(LEVELS[inner] + 1 / 255) - gaussian.cdf(LEVELS[inner] - 1 / 255)
    assert (log_p[inner].exp() / theirs - 1).abs().max() < 1e-9


def test_decoder_likelihood_is_finite_far_from_the_mean():
    # 100 to 500 standard deviations away: log p is about the log density at the bin's near edge, on either side.
    mean, sigma = torch.zeros(2, dtype=torch.float64), 1e-3
    log_p = decoder_log_likelihood(LEVELS[[70, 185]], mean, sigma**2)
    edge = (LEVELS[185] - 1 / 255) / sigma
    expected = -(edge**2) / 2 - torch.log(edge * (2 * torch.pi) ** 0.5)
    assert (log_p - expected).abs().max() < 1e-3  # the tail's next term is 1 / edge^2


def noised(steps, schedule):
    """8-bit images, an estimate off by some tenths, and x_t."""
    stream = generator(0, "noised")
    x0 = LEVELS[torch.randint(256, (len(steps), 1, 4, 5), generator=stream)]
    eps, error = torch.randn(2, *x0.shape, generator=stream, dtype=torch.float64)
    return x0, x0 + error / 4, add_noise(x0, eps, steps, schedule)


def test_learned_variance_attains_closed_form_minimum():
    # For a squared error e^2 of the mean, KL is minimal at sigma^2 = beta_tilde + e^2, where it is half of
    # log(1 + e^2 / beta_tilde). No v in equation 15 gets below it, and one v attains it.
    schedule = NoiseSchedule(50, betas=cosine_schedule(50))
    steps = torch.tensor([2, 5, 25, 49, 50])
    x0, estimate, xt = noised(steps, schedule)
    means = [posterior_mean(image, xt, steps, schedule) for image in (x0, estimate)]
    small = posterior_variance(steps, schedule).reshape(-1, 1, 1, 1)
    best = small + (means[0] - means[1]) ** 2
    least = (best / small).log() / 2
    v = (best / small).log() / (schedule.beta(steps).reshape(-1, 1, 1, 1) / small).log()
    terms = [
        bound_term(x0, estimate, xt, steps, schedule, reverse_variance("learned", steps, schedule, v + shift))
        for shift in (0.0, 0.3, -0.3, 2.0)
    ]
    assert (terms[0] - least).abs().max() < 1e-9  # terms up to 10
    assert all((term >= least - 1e-9).all() for term in terms)
    assert (torch.stack(terms[1:]) > least).any()


def test_bound_term_handles_mixed_timesteps_with_finite_gradients():
    schedule = NoiseSchedule(50, betas=cosine_schedule(50))
    steps = torch.tensor([1, 50, 1, 2])
    x0, estimate, xt = noised(steps, schedule)
    x0[0], x0[1] = -1, 1  # the unbounded bins
    estimate.requires_grad_()
    v = torch.zeros_like(x0, requires_grad=True)
    terms = bound_term(x0, estimate, xt, steps, schedule, reverse_variance("learned", steps, schedule, v))
    variance = posterior_variance(2, schedule).item()
    with torch.no_grad():
        for i in (0, 2):
            assert (terms[i] + decoder_log_likelihood(x0[i], estimate[i], variance)).abs().max() < 1e-9
        for i in (1, 3):
            small = posterior_variance(steps[i : i + 1], schedule)
            means = [posterior_mean(x[i : i + 1], xt[i : i + 1], steps[i : i + 1], schedule) for x in (x0, estimate)]
            p, q = (Normal(mean, small.sqrt()) for mean in means)
            assert (terms[i] / kl_divergence(p, q) - 1).abs().max() < 1e-9
    terms.sum().backward()
    assert estimate.grad.isfinite().all()
    assert v.grad.isfinite().all()
    # Not every pixel at t = 1: an unbounded bin can hold all of the mass at any variance.
    assert (v.grad[steps > 1] != 0).all()
    assert (v.grad[2] != 0).any()
