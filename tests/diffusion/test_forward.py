"""The forward process: equation 2 against equation 4, and reconstruction as the inverse of noising."""

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from ddpm.diffusion.forward import add_noise, draw_steps, noise_img, q_eq2, q_eq4, reconstruct
from ddpm.diffusion.schedule import NoiseSchedule, linear_schedule
from ddpm.run.seeding import generator

LEVEL = 1e-6  # how often a chi-square test of correct code may fail: with another seed, once in a million
IMAGES = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))


def test_equations_2_and_4_scale_the_image_alike(monkeypatch):
    monkeypatch.setattr("ddpm.diffusion.forward._randn_like", lambda x, _: torch.zeros_like(x))
    betas = linear_schedule(200)
    x = torch.ones(1, dtype=torch.float64)
    for n in (0, 1, 10, 50, 200):
        assert (q_eq2(x, n, betas) - q_eq4(x, n, betas)).abs().max() < 1e-14


def test_equations_2_and_4_add_the_same_variance(monkeypatch):
    # Both are linear in the noise: with a different unit vector at each step, the result holds the noises' factors.
    betas = linear_schedule(200)
    for n in (1, 10, 50, 200):
        for q in (q_eq2, q_eq4):
            units = iter(torch.eye(n, dtype=torch.float64))
            monkeypatch.setattr("ddpm.diffusion.forward._randn_like", lambda *_, units=units: next(units))
            factors = q(torch.zeros(n, dtype=torch.float64), n, betas)
            assert abs(factors.square().sum() - (1 - (1 - betas[:n]).prod())) < 1e-14


@pytest.mark.parametrize("q", [q_eq2, q_eq4])
@pytest.mark.parametrize("n", [1, 10, 50, 200])
def test_moments_match_closed_form(q, n):
    n_pixels = 200_000
    betas = linear_schedule(200)
    x = torch.full((n_pixels,), 0.7, dtype=torch.float64)
    xt = q(x, n, betas, generator(0, f"{q.__name__}", n))
    alpha_bar = torch.prod(1 - betas[:n])
    sigma2 = 1 - alpha_bar
    # 4.5 standard errors of a mean and of a variance: a correct sampler fails one time in 150,000.
    assert abs(xt.mean() - alpha_bar.sqrt() * 0.7) < 4.5 * (sigma2 / n_pixels).sqrt()
    assert abs(xt.var() - sigma2) < 4.5 * sigma2 * (2 / n_pixels) ** 0.5


@given(IMAGES)
def test_zero_steps_return_the_image(shape):
    x = torch.randn(shape, generator=generator(0, "x"))
    assert torch.equal(q_eq4(x, 0, linear_schedule(5)), x)
    assert torch.equal(q_eq2(x, 0, linear_schedule(5)), x)


@pytest.mark.parametrize("q", [q_eq2, q_eq4])
@pytest.mark.parametrize("n", [-1, 6])
def test_forward_process_rejects_steps_out_of_range(q, n):
    with pytest.raises(IndexError, match=r"steps 0 to 5"):
        q(torch.zeros(1), n, linear_schedule(5))


@given(IMAGES, st.integers(1, 1000), st.integers(0, 2**31))
def test_reconstruct_inverts_noise_img(shape, max_steps, seed):
    schedule = NoiseSchedule(1000)
    img = torch.rand(shape, generator=generator(seed, "img"), dtype=torch.float64) * 2 - 1
    num_steps, noise, noised = noise_img(img, schedule, max_steps, generator(seed, "noise"))
    assert num_steps.shape == shape[:1]
    assert num_steps.min() >= 1
    assert num_steps.max() <= max_steps
    # float64 rounding (1e-16) times the largest 1 / sqrt(alpha_bar_T), 158, and a margin.
    assert (reconstruct(noised, noise, num_steps, schedule) - img).abs().max() < 1e-12


def test_noise_img_matches_diffusers():
    ours, theirs = NoiseSchedule(200), DDPMScheduler(200)
    theirs.alphas_cumprod = ours.alpha_bars  # their float32 table would be the larger difference
    img = torch.rand(16, 3, 4, 5, generator=generator(0, "img"), dtype=torch.float64) * 2 - 1
    num_steps, noise, noised = noise_img(img, ours, generator=generator(0, "noise"))
    expected = theirs.add_noise(img, noise, num_steps - 1)  # diffusers counts from 0
    assert (noised - expected).abs().max() < 1e-14  # three roundings of values below 8


def test_timesteps_are_drawn_uniformly():
    schedule = NoiseSchedule(10)
    num_steps, _, _ = noise_img(torch.zeros(10_000, 1, 1, 1), schedule, generator=generator(0, "steps"))
    counts = torch.bincount(num_steps, minlength=11)
    assert counts[0] == 0
    assert chisquare(counts[1:].numpy()).pvalue > LEVEL


def test_noise_depends_on_generator_and_not_on_global_rng():
    img = torch.zeros(2, 1, 3, 3)
    before = torch.get_rng_state()
    first = noise_img(img, NoiseSchedule(10), generator=generator(1, "a"))
    again = noise_img(img, NoiseSchedule(10), generator=generator(1, "a"))
    other = noise_img(img, NoiseSchedule(10), generator=generator(1, "b"))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])
    assert torch.equal(before, torch.get_rng_state())


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 9))
def test_stratified_timesteps_fill_the_range_evenly(n, max_steps, seed):
    steps = draw_steps(n, max_steps, "stratified", generator(seed, "steps"))
    up_to = torch.arange(1, max_steps + 1)
    # Of n equally spaced points on a circle, an arc of s / T contains n s / T, give or take 1.
    counts = (steps[:, None] <= up_to).sum(0)
    assert (counts - n * up_to / max_steps).abs().max() <= 1
    if n % max_steps == 0:
        assert (steps.bincount(minlength=max_steps + 1)[1:] == n // max_steps).all()


@pytest.mark.parametrize("step_sampling", ["uniform", "stratified"])
def test_timestep_of_each_image_is_uniform(step_sampling):
    stream, T = generator(0, "steps"), 7
    draws = torch.stack([draw_steps(3, T, step_sampling, stream) for _ in range(2000)])
    assert (draws.min(), draws.max()) == (1, T)
    for image in range(3):  # the steps of each image
        assert chisquare(draws[:, image].bincount(minlength=T + 1)[1:].numpy()).pvalue > LEVEL


def test_noise_img_respects_step_sampling():
    img, schedule = torch.zeros(200, 1, 2, 2), NoiseSchedule(100)
    steps, *_ = noise_img(img, schedule, generator=generator(0, "a"), step_sampling="stratified")
    assert (steps.bincount(minlength=101)[1:] == 2).all()
    steps, *_ = noise_img(img, schedule, 20, generator(0, "a"), "stratified")
    assert (steps.bincount(minlength=21)[1:] == 10).all()


@pytest.mark.parametrize("max_steps", [0, 11, -3])
def test_noise_img_rejects_max_steps_out_of_range(max_steps):
    with pytest.raises(IndexError, match=r"steps 1 to 10"):
        noise_img(torch.zeros(1, 1, 2, 2), NoiseSchedule(10), max_steps)


def test_gradients_flow_through_reconstruct():
    schedule = NoiseSchedule(10)
    noise = torch.zeros(1, 1, 2, 2, requires_grad=True)
    steps = torch.tensor([4])
    reconstruct(torch.ones(1, 1, 2, 2), noise, steps, schedule).sum().backward()
    alpha_bar = torch.prod(1 - torch.linspace(1e-4, 0.02, 10, dtype=torch.float64)[:4])
    assert (noise.grad + ((1 - alpha_bar) / alpha_bar).sqrt()).abs().max() < 1e-6


def test_add_noise_at_step_0_returns_the_image():
    img, noise = torch.randn(2, 1, 1, 2, 2, generator=generator(0, "x"))
    assert torch.equal(add_noise(img, noise, torch.tensor([0]), NoiseSchedule(10)), img)
