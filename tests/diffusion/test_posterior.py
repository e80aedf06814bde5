"""Conversions between predictions and the posterior of equation 7, against closed forms, Bayes' rule and diffusers."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ddpm.diffusion.forward import add_noise
from ddpm.diffusion.posterior import (
    eps_error,
    posterior_mean,
    posterior_variance,
    reverse_variance,
    target,
    to_eps,
    to_x0,
    x0_error,
)
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.run.seeding import generator

PREDICTIONS = ["eps", "x0", "v", "mean"]


def images(n=6, index=0):
    stream = generator(0, "posterior", index)
    return torch.randn(n, 1, 2, 3, generator=stream, dtype=torch.float64)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", SCHEDULES)
@settings(max_examples=20, deadline=None)
@given(t=st.integers(1, 100), seed=st.integers(0, 1000))
def test_conversions_invert_target(prediction, name, t, seed):
    schedule = NoiseSchedule(100, betas=SCHEDULES[name](100))
    assume(prediction != "eps" or schedule.alpha_bar(t) > 0)  # pure noise does not determine x_0
    x0, eps, steps = images(index=seed), images(index=seed + 5000), torch.full((6,), t)
    xt = add_noise(x0, eps, steps, schedule)
    said = target(prediction, x0, eps, steps, schedule)
    # float64 rounding, amplified by at most 1 / sqrt(alpha_bar_T): 1 / 1.6e-3 for the cosine schedule
    assert (to_x0(prediction, said, xt, steps, schedule) - x0).abs().max() < 1e-10
    assert (to_eps(prediction, said, xt, steps, schedule) - eps).abs().max() < 1e-10


def test_v_is_derivative_along_the_arc():
    # With alpha_bar = cos^2(phi), v is d/dphi of x_phi = cos(phi) x0 + sin(phi) eps (Salimans & Ho, appendix D).
    schedule = NoiseSchedule(3, betas=torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64))
    x0, eps = images(3), images(3, 1)
    phi = torch.arccos(torch.cumprod(1 - schedule.betas, 0).sqrt()).reshape(-1, 1, 1, 1)
    h = 1e-6
    x = [torch.cos(phi + d) * x0 + torch.sin(phi + d) * eps for d in (-h, h)]
    # central difference: error h^2 / 6 of the third derivative and rounding 1e-16 / h
    assert (target("v", x0, eps, torch.tensor([1, 2, 3]), schedule) - (x[1] - x[0]) / (2 * h)).abs().max() < 1e-8


def test_posterior_follows_bayes_rule():
    # q(x_{t-1} | x_t, x_0) is proportional to q(x_t | x_{t-1}) q(x_{t-1} | x_0): two Gaussians multiplied.
    schedule = NoiseSchedule(50, betas=SCHEDULES["cosine"](50))
    for t in (1, 2, 17, 50):
        x0, xt = images(1), images(1, 1)
        beta = schedule.betas[t - 1]
        before = schedule.alpha_bars[t - 2] if t > 1 else torch.tensor(1.0, dtype=torch.float64)
        if t == 1:
            mean, variance = x0, torch.zeros(1, dtype=torch.float64)
        else:
            precision = (1 - beta) / beta + 1 / (1 - before)
            variance = 1 / precision
            mean = variance * ((1 - beta).sqrt() / beta * xt + before.sqrt() / (1 - before) * x0)
        steps = torch.tensor([t])
        assert (posterior_mean(x0, xt, steps, schedule) - mean).abs().max() < 1e-12
        assert (posterior_variance(t, schedule) - variance).abs().max() < 1e-15


@pytest.mark.parametrize(("prediction", "theirs"), [("eps", "epsilon"), ("x0", "sample"), ("v", "v_prediction")])
def test_to_x0_matches_diffusers(prediction, theirs):
    ours = NoiseSchedule(100)
    scheduler = DDIMScheduler(100, prediction_type=theirs, clip_sample=False)
    scheduler.alphas_cumprod = ours.alpha_bars  # their float32 table would be the larger difference
    scheduler.set_timesteps(100)
    predicted, xt = images(), images(index=1)
    for t in (1, 2, 50, 100):
        step = scheduler.step(predicted, t - 1, xt)  # diffusers counts from 0
        x0 = to_x0(prediction, predicted, xt, torch.full((6,), t), ours)
        assert (x0 - step.pred_original_sample).abs().max() < 1e-12


def test_v_target_matches_diffusers():
    ours = NoiseSchedule(100)
    scheduler = DDPMScheduler(100)
    scheduler.alphas_cumprod = ours.alpha_bars
    x0, eps, steps = images(), images(index=1), torch.tensor([1, 2, 10, 50, 99, 100])
    v = scheduler.get_velocity(x0, eps, steps - 1)
    assert (target("v", x0, eps, steps, ours) - v).abs().max() < 1e-12


@pytest.mark.parametrize("name", SCHEDULES)
def test_mean_target_is_equation_11(name):
    ours, steps = NoiseSchedule(60, betas=SCHEDULES[name](60)), torch.tensor([1, 2, 10, 30, 58, 59])
    x0, eps = images(), images(index=1)
    beta, alpha_bar = (table[steps - 1].reshape(-1, 1, 1, 1) for table in (ours.betas, (1 - ours.betas).cumprod(0)))
    xt = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps
    mean = (xt - beta / (1 - alpha_bar).sqrt() * eps) / (1 - beta).sqrt()
    said = target("mean", x0, eps, steps, ours)
    assert (said - mean).abs().max() < 1e-12
    assert (said[0] - x0[0]).abs().max() < 1e-12  # at t = 1, where beta_tilde is 0, it is the image


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_x0_error_is_squared_change_of_x0_per_unit_error(prediction):
    ours, steps = NoiseSchedule(60, betas=SCHEDULES["cosine"](60)), torch.tensor([1, 2, 10, 30, 59, 60])
    said, xt = images(), images(index=1)
    moved = to_x0(prediction, said + 1, xt, steps, ours) - to_x0(prediction, said, xt, steps, ours)
    # rounding of x0 up to 1e3 (eps at T), relative to a move of the same size
    assert (x0_error(prediction, steps, ours) / moved**2 - 1).abs().max() < 1e-9


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_eps_error_is_squared_change_of_eps_per_unit_error(prediction):
    ours, steps = NoiseSchedule(60, betas=SCHEDULES["cosine"](60)), torch.tensor([1, 2, 10, 30, 59, 60])
    said, xt = images(), images(index=1)
    moved = to_eps(prediction, said + 1, xt, steps, ours) - to_eps(prediction, said, xt, steps, ours)
    # rounding of eps, relative to a move that at T is only sqrt(alpha_bar_T) = 1e-3 of it for x0
    assert (eps_error(prediction, steps, ours) / moved**2 - 1).abs().max() < 1e-9


def test_learned_variance_interpolates_fixed_ones_like_diffusers():
    ours, steps = NoiseSchedule(60, betas=SCHEDULES["cosine"](60)), torch.tensor([1, 2, 10, 30, 59, 60])
    before = torch.tensor([ours.alpha_bars[t - 2] if t > 1 else 1.0 for t in steps.tolist()], dtype=torch.float64)
    small = ours.betas[steps - 1] * (1 - before) / (1 - ours.alpha_bars[steps - 1])
    small[0] = small[1]  # at t = 1 it is 0, and beta_tilde_2 stands in
    expected = {"small": small, "large": ours.betas[steps - 1]}
    for v, name in ((0.0, "small"), (1.0, "large")):
        got = reverse_variance("learned", steps, ours, torch.full((6, 1, 2, 3), v))
        assert (got / expected[name].reshape(-1, 1, 1, 1) - 1).abs().max() < 1e-12
        fixed = reverse_variance(f"fixed_{name}", steps, ours)
        assert (fixed[1:] / got[1:] - 1).abs().max() < 1e-12
        assert (fixed[0] / small[0] - 1).abs().max() < 1e-12  # for either, as in the paper's code

    v = images()
    theirs = DDPMScheduler(60, variance_type="learned_range")
    theirs.alphas_cumprod, theirs.one = ours.alpha_bars, torch.ones((), dtype=torch.float64)
    got = reverse_variance("learned", steps, ours, v)
    for i, t in enumerate(steps.tolist()[1:], start=1):  # at t = 1 theirs has 1e-20 for 0, and adds no noise
        raw = 2 * v[i] - 1
        assert (got[i].log() - theirs._get_variance(t - 1, predicted_variance=raw)).abs().max() < 1e-12
    with pytest.raises(ValueError, match="this network was not trained to predict it"):
        reverse_variance("learned", steps, ours)
