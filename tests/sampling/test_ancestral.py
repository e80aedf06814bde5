"""Algorithm 2 against a hand-computed chain, against diffusers, and for what it must leave alone."""

import pytest
import torch
from diffusers import DDPMScheduler
from torch import nn

from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.models.base import DiffusionModel
from ddpm.sampling.ancestral import ancestral_steps, sample
from ddpm.seeding import generator

SHAPE = (3, 4, 5)


class Linear(DiffusionModel):
    """eps = a x + b t: simple enough to follow by hand."""

    def __init__(self, max_steps=20, a=0.3, b=0.01):
        super().__init__()
        self.img_shape = SHAPE
        self.a = nn.Parameter(torch.tensor(a))
        self.b = b
        self.noise_schedule = NoiseSchedule(max_steps)

    def forward(self, images, num_steps):
        return self.a * images + self.b * num_steps.reshape(-1, 1, 1, 1)


def streams(n):
    return [generator(0, "image", i) for i in range(n)]


@pytest.mark.parametrize("variance", ["fixed_large", "fixed_small"])
def test_the_chain_computed_by_hand(variance):
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
    steps = list(ancestral_steps(model, streams(1), variance))
    assert len(steps) == 21
    for ours, theirs in zip(steps, expected, strict=True):
        assert (ours[0] - theirs).abs().max() < 1e-5  # float32 against float64 over 20 steps


@pytest.mark.parametrize("variance", ["fixed_large", "fixed_small"])
def test_each_step_agrees_with_diffusers(variance, monkeypatch):
    model = Linear(200)
    theirs = DDPMScheduler(200, variance_type=variance, clip_sample=False)
    # Their float32 table loses 1 - alpha_bar's digits at small t; their formulas are compared, on exact numbers.
    theirs.betas = torch.linspace(1e-4, 0.02, 200, dtype=torch.float64)
    theirs.alphas = 1 - theirs.betas
    theirs.alphas_cumprod = theirs.alphas.cumprod(0)
    drawn = []
    randn = torch.randn

    def remember(*args, **kwargs):
        drawn.append(randn(*args, **kwargs))
        return drawn[-1]

    monkeypatch.setattr("torch.randn", remember)
    ours = list(ancestral_steps(model, streams(1), variance))
    monkeypatch.setattr("torch.randn", randn)
    noise = iter(drawn[1:])
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: next(noise)[None])
    for t, before, after in zip(range(200, 0, -1), ours[:-1], ours[1:], strict=True):
        with torch.no_grad():
            eps = model(before, torch.tensor([t]))
        step = theirs.step(eps, t - 1, before)  # diffusers counts from 0
        assert (step.prev_sample - after).abs().max() < 2e-6  # a few float32 roundings of values up to 8


@pytest.mark.parametrize(("prediction", "theirs"), [("x0", "sample"), ("v", "v_prediction")])
def test_other_predictions_and_clipping_agree_with_diffusers(prediction, theirs, monkeypatch):
    model = Linear(50, a=0.9)
    model.prediction = prediction
    scheduler = DDPMScheduler(50, prediction_type=theirs, clip_sample=True)
    scheduler.betas, scheduler.alphas = model.noise_schedule.betas, model.noise_schedule.alphas
    scheduler.alphas_cumprod = model.noise_schedule.alpha_bars
    ours = list(ancestral_steps(model, streams(1), "fixed_small", clip_sample=True))
    unclipped = list(ancestral_steps(model, streams(1), "fixed_small"))
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


def test_a_gaussian_is_sampled_with_its_own_moments():
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


def test_shapes_and_number_of_steps():
    model = Linear()
    steps = sample(model, 5, return_all_steps=True, generator=generator(0, "a"))
    result = sample(model, 5, generator=generator(0, "a"))
    assert len(steps) == 21
    assert all(x.shape == (5, *SHAPE) for x in steps)
    assert torch.equal(steps[-1], result)
    assert sample(model, 0).shape == (0, *SHAPE)


def test_it_starts_from_pure_noise():
    x = sample(Linear(), 400, return_all_steps=True, generator=generator(0, "a"))[0]
    n = x.numel()
    assert abs(x.mean()) < 4.5 / n**0.5
    assert abs(x.var() - 1) < 4.5 * (2 / n) ** 0.5


def test_no_noise_at_the_last_step():
    model = Linear()
    steps = sample(model, 2, return_all_steps=True, generator=generator(0, "a"))
    with torch.no_grad():
        eps = model(steps[-2], torch.tensor([1, 1]))
    beta = 1e-4  # at t = 1, alpha = alpha_bar = 1 - beta
    expected = (steps[-2] - beta**0.5 * eps) / (1 - beta) ** 0.5
    assert (steps[-1] - expected).abs().max() < 1e-6


def test_an_image_does_not_depend_on_its_batch():
    model = Linear()
    *_, together = ancestral_steps(model, streams(7))
    for i in range(7):
        *_, alone = ancestral_steps(model, [generator(0, "image", i)])
        assert (together[i] - alone[0]).abs().max() < 1e-6


def test_mode_and_global_state_are_left_alone():
    model = Linear()
    model.dropout = nn.Dropout(0.5)
    model.train()
    model.dropout.eval()
    before = torch.get_rng_state()
    sample(model, 2)
    sample(model, 2, generator=generator(0, "a"))
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
    assert not model.dropout.training


def test_without_a_generator_the_global_seed_decides():
    model = Linear()
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(sample(model, 2))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_what_cannot_be_sampled_says_why():
    model = Linear()
    with pytest.raises(ValueError, match="n_samples is -1"):
        sample(model, -1)
    model.noise_schedule = None
    with pytest.raises(ValueError, match="no noise_schedule"):
        sample(model, 1)
