"""Algorithm 2 against a hand-computed chain and against diffusers."""

import pytest
import torch
from analytic import SHAPE, Linear, streams
from diffusers import DDPMScheduler

from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.run.seeding import generator
from ddpm.sampling.chain import sample_steps
from ddpm.sampling.sample import sample
from ddpm.sampling.samplers.ancestral import AncestralOptions


@pytest.mark.parametrize("variance", ["fixed_large", "fixed_small"])
def test_chain_matches_hand_computed_steps(variance):
    model = Linear()
    betas = torch.linspace(1e-4, 0.02, 20, dtype=torch.float64)
    alpha_bars = torch.cumprod(1 - betas, 0)
    noise = generator(0, "image", 0)
    x = torch.randn(SHAPE, generator=noise).double()
    expected = [x]
    for t in range(20, 0, -1):
        i = t - 1
        eps = 0.3 * x + 0.01 * t
        x = (x - betas[i] / torch.sqrt(1 - alpha_bars[i]) * eps) / torch.sqrt(1 - betas[i])
        if t > 1:
            sigma2 = betas[i]
            if variance == "fixed_small":
                sigma2 = (1 - alpha_bars[i - 1]) / (1 - alpha_bars[i]) * betas[i]
            x = x + torch.sqrt(sigma2) * torch.randn(SHAPE, generator=noise)
        expected.append(x)
    steps = list(sample_steps(model, streams(1), options=AncestralOptions(variance=variance)))
    assert len(steps) == 21
    for ours, theirs in zip(steps, expected, strict=True):
        assert (ours[0] - theirs).abs().max() < 1e-5  # float32 against float64 over 20 steps


@pytest.mark.parametrize("variance", ["fixed_large", "fixed_small"])
def test_each_step_matches_diffusers(variance, monkeypatch):
    model = Linear(200)
    theirs = DDPMScheduler(200, variance_type=variance, clip_sample=False)
    # The float32 table of diffusers loses digits of 1 - alpha_bar at small t, so its formulas get exact numbers.
    theirs.betas = torch.linspace(1e-4, 0.02, 200, dtype=torch.float64)
    theirs.alphas = 1 - theirs.betas
    theirs.alphas_cumprod = theirs.alphas.cumprod(0)
    drawn = []
    randn = torch.randn

    def remember(*args, **kwargs):
        drawn.append(randn(*args, **kwargs))
        return drawn[-1]

    monkeypatch.setattr("torch.randn", remember)
    ours = list(sample_steps(model, streams(1), options=AncestralOptions(variance=variance)))
    monkeypatch.setattr("torch.randn", randn)
    noise = iter(drawn[1:])
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: next(noise)[None])
    for t, before, after in zip(range(200, 0, -1), ours[:-1], ours[1:], strict=True):
        with torch.no_grad():
            eps = model(before, torch.tensor([t]))
        step = theirs.step(eps, t - 1, before)  # diffusers counts from 0
        assert (step.prev_sample - after).abs().max() < 2e-6  # a few float32 roundings of values up to 8


@pytest.mark.parametrize(("prediction", "theirs"), [("x0", "sample"), ("v", "v_prediction")])
def test_x0_and_v_with_clipping_match_diffusers(prediction, theirs, monkeypatch):
    model = Linear(50, a=0.9)
    model.prediction = prediction
    scheduler = DDPMScheduler(50, prediction_type=theirs, clip_sample=True)
    scheduler.betas, scheduler.alphas = model.noise_schedule.betas, model.noise_schedule.alphas
    scheduler.alphas_cumprod = model.noise_schedule.alpha_bars
    ours = list(sample_steps(model, streams(1), options=AncestralOptions(variance="fixed_small"), clip_sample=True))
    unclipped = list(sample_steps(model, streams(1), options=AncestralOptions(variance="fixed_small")))
    assert (ours[-1] - unclipped[-1]).abs().max() > 0.01  # clipping does something here
    noise = torch.zeros(1, *SHAPE)
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: noise)
    drawn = generator(0, "image", 0)
    torch.randn(SHAPE, generator=drawn)
    for t, before, after in zip(range(50, 0, -1), ours[:-1], ours[1:], strict=True):
        noise = torch.randn(SHAPE, generator=drawn)[None]
        with torch.no_grad():
            said = model(before, torch.tensor([t]))
        assert (scheduler.step(said, t - 1, before).prev_sample - after).abs().max() < 2e-6


def test_learned_variance_requires_a_network_that_predicts_it():
    with pytest.raises(ValueError, match="this network was not trained to predict it; use fixed_large or fixed_small"):
        list(sample_steps(Linear(), streams(1), options=AncestralOptions(variance="learned")))


def test_exact_gaussian_model_samples_have_data_moments():
    # For x0 ~ N(mu, s^2) the exact noise prediction is linear, so every moment of the chain is known: the last
    # alpha_bar is nearly 0 and Algorithm 2 must give mu, and s^2 up to the discretisation of 200 steps.
    mu, s = 0.4, 0.5
    schedule = NoiseSchedule(200, betas=torch.linspace(5e-4, 0.1, 200, dtype=torch.float64))

    class Exact(Linear):
        def forward(self, images, num_steps):
            alpha_bar = schedule.alpha_bar(num_steps).reshape(-1, 1, 1, 1).float()
            variance = alpha_bar * s**2 + 1 - alpha_bar
            return (1 - alpha_bar).sqrt() * (images - alpha_bar.sqrt() * mu) / variance

    model = Exact()
    model.noise_schedule = schedule
    x = sample(model, 500, generator=generator(0, "gaussian"), variance="fixed_small")
    n = x.numel()  # 30,000 independent values
    assert abs(x.mean() - mu) < 4.5 * s / n**0.5 + 0.005
    assert abs(x.std() - s) < 4.5 * s / (2 * n) ** 0.5 + 0.02 * s  # the chain's own variance is 1-2 % off at T = 200
