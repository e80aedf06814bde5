"""Schedules against the paper's constants, closed forms and diffusers, and lookups against Algorithm 1's indexing."""

from math import inf, nan

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr as theirs_zero_snr
from hypothesis import given
from hypothesis import strategies as st

from ddpm.diffusion.schedule import (
    SCHEDULES,
    NoiseSchedule,
    cosine_schedule,
    linear_schedule,
    linear_zero_snr_schedule,
    rescale_zero_terminal_snr,
    rescaled_linear_schedule,
)


def test_linear_schedule_has_constants_of_the_paper():
    betas = linear_schedule(1000)
    assert betas.shape == (1000,)
    assert betas[0].item() == 1e-4
    assert betas[-1].item() == 0.02
    # Constant increments: the paper's betas "increase linearly".
    assert (betas.diff() - (0.02 - 1e-4) / 999).abs().max() < 1e-17


def test_linear_schedule_reaches_prior_of_the_paper():
    # Section 4: with T = 1000, D_KL(q(x_T | x_0) || N(0, I)) is about 1e-5 bits per dimension.
    alpha_bar = NoiseSchedule(1000).alpha_bar(1000).item()
    x0_squared = 1 / 3  # E[x_0^2] of a pixel uniform on [-1, 1], while the paper's figure is for CIFAR-10
    kl_nats = 0.5 * (alpha_bar * x0_squared - alpha_bar - torch.log1p(torch.tensor(-alpha_bar).double()).item())
    assert 3e-6 < kl_nats / 0.6931 < 3e-5


@pytest.mark.parametrize("max_steps", [21, 200, 1000])
def test_linear_schedules_match_diffusers(max_steps):
    theirs = DDPMScheduler(max_steps, beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
    assert (NoiseSchedule(max_steps).alpha_bars - theirs.alphas_cumprod).abs().max() < 1e-6  # theirs is float32
    scale = 1000 / max_steps
    theirs = DDPMScheduler(max_steps, beta_schedule="linear", beta_start=1e-4 * scale, beta_end=0.02 * scale)
    assert (rescaled_linear_schedule(max_steps) - theirs.betas).abs().max() < 1e-6


@pytest.mark.parametrize("max_steps", [1, 10, 200, 1000])
def test_cosine_schedule_matches_diffusers(max_steps):
    theirs = DDPMScheduler(max_steps, beta_schedule="squaredcos_cap_v2")
    assert (cosine_schedule(max_steps) - theirs.betas).abs().max() < 1e-6  # theirs is float32


@pytest.mark.parametrize(
    "wrong", [{"s": -0.1}, {"s": nan}, {"s": inf}, {"max_beta": 0.0}, {"max_beta": 1.1}, {"max_beta": nan}]
)
def test_cosine_schedule_rejects_arguments_out_of_range(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} (is )?{value}.*need 0 <= s < inf and 0 < max_beta <= 1"):
        cosine_schedule(10, **wrong)


def test_cosine_alpha_bar_matches_closed_form():
    t = torch.arange(1, 200, dtype=torch.float64)  # beta_T is clipped, so alpha_bar_T is not the closed form

    def f(t):
        return torch.cos((t / 200 + 0.008) / 1.008 * torch.pi / 2) ** 2

    expected = f(t) / f(torch.zeros(1, dtype=torch.float64))
    assert (NoiseSchedule(200, betas=cosine_schedule(200)).alpha_bars[:-1] - expected).abs().max() < 1e-12


@pytest.mark.parametrize("max_steps", [21, 50, 100, 200, 1000, 4000])
def test_rescaled_linear_schedule_ends_in_noise_at_any_length(max_steps):
    # sum(betas) is 10.05 whatever T, so alpha_bar_T <= exp(-10.05).
    assert NoiseSchedule(max_steps, betas=rescaled_linear_schedule(max_steps)).alpha_bar(max_steps) <= 4.4e-5


def test_linear_schedule_of_200_steps_does_not_end_in_noise():
    # -log alpha_bar_T = -sum log(1 - beta) = sum(beta) + sum(beta^2) / 2 + ..., with sum(beta) = 200 * 0.01005.
    betas = torch.linspace(1e-4, 0.02, 200, dtype=torch.float64)
    log_alpha_bar = -(betas.sum() + (betas**2).sum() / 2 + (betas**3).sum() / 3)
    assert abs(NoiseSchedule(200).alpha_bar(200).sqrt().item() - torch.exp(log_alpha_bar / 2).item()) < 1e-6
    assert 0.35 < NoiseSchedule(200).alpha_bar(200).sqrt() < 0.37


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(21, 500))
def test_every_schedule_has_valid_betas(name, max_steps):
    betas = SCHEDULES[name](max_steps)
    assert betas.shape == (max_steps,)
    assert betas.dtype == torch.float64
    assert (betas > 0).all()
    assert (betas[:-1] < 1).all()
    assert betas[-1] < 1 or (name, betas[-1]) == ("linear_zero_snr", 1)
    assert (NoiseSchedule(max_steps, betas=betas).alpha_bars.diff() < 0).all()


@pytest.mark.parametrize("max_steps", [2, 25, 200, 1000])
def test_zero_terminal_snr_matches_diffusers(max_steps):
    betas = linear_schedule(max_steps)
    ours = rescale_zero_terminal_snr(betas)
    assert (ours - theirs_zero_snr(betas)).abs().max() < 1e-12
    alpha_bar = NoiseSchedule(max_steps, betas=linear_zero_snr_schedule(max_steps)).alpha_bars
    assert alpha_bar[-1] == 0
    # An affine map of sqrt(alpha_bar) that keeps its first value.
    strength, before = alpha_bar.sqrt(), (1 - betas).cumprod(0).sqrt()
    assert abs(strength[0] - before[0]) < 1e-12
    slope = strength.diff() / before.diff()
    assert (slope / slope[0] - 1).abs().max() < 1e-9


def test_lookups_count_from_one():
    betas = torch.tensor([0.1, 0.2, 0.5], dtype=torch.float64)
    schedule = NoiseSchedule(3, betas=betas)
    assert len(schedule) == 3
    assert schedule.beta(1).tolist() == [0.1]
    assert schedule.alpha(3).tolist() == [0.5]
    assert schedule.alpha_bar(0).tolist() == [1.0]
    steps = torch.tensor([3, 0, 1, 2])
    expected = torch.tensor([0.9 * 0.8 * 0.5, 1.0, 0.9, 0.9 * 0.8], dtype=torch.float64)
    assert (schedule.alpha_bar(steps) - expected).abs().max() < 1e-15
    assert schedule.alpha_bar(steps).shape == (4,)
    assert schedule.beta(torch.tensor([2], dtype=torch.int32)).tolist() == [0.2]


@pytest.mark.parametrize("lookup", ["beta", "alpha", "alpha_bar"])
@pytest.mark.parametrize("steps", [-1, 4, torch.tensor([1, 4]), torch.tensor([-1])])
def test_lookups_reject_steps_out_of_range(lookup, steps):
    with pytest.raises(IndexError, match=r"this schedule has steps [01] to 3"):
        getattr(NoiseSchedule(3), lookup)(steps)


@pytest.mark.parametrize("lookup", ["beta", "alpha"])
def test_beta_and_alpha_reject_step_0(lookup):
    with pytest.raises(IndexError, match="num_steps is 0; this schedule has steps 1 to 3"):
        getattr(NoiseSchedule(3), lookup)(0)


def test_invalid_schedules_are_rejected():
    for bad in (lambda: linear_schedule(0), lambda: linear_schedule(10, 0.02, 0.01), lambda: linear_schedule(10, 0.0)):
        with pytest.raises(ValueError, match=r"max_steps|min_noise"):
            bad()
    with pytest.raises(ValueError, match="at least 21"):
        rescaled_linear_schedule(20)
    with pytest.raises(ValueError, match="shape"):
        NoiseSchedule(3, betas=torch.full((4,), 0.1, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"betas lie in 1\.\.1; .* between 0 and 1"):
        NoiseSchedule(2, betas=torch.ones(2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"max_steps is 1; .* needs at least 2"):
        linear_zero_snr_schedule(1)


def test_schedule_is_saved_with_the_model(tmp_path):
    from safetensors.torch import load_file, save_file

    model = torch.nn.Module()
    model.noise_schedule = NoiseSchedule(50)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    loaded = load_file(tmp_path / "model.safetensors")
    assert set(loaded) == {f"noise_schedule.{name}" for name in ("betas", "alphas", "alpha_bars")}
    betas = torch.linspace(1e-4, 0.02, 50, dtype=torch.float64)
    assert torch.equal(loaded["noise_schedule.betas"], betas)
    assert torch.equal(loaded["noise_schedule.alphas"], 1 - betas)
    assert (loaded["noise_schedule.alpha_bars"] - torch.cumprod(1 - betas, 0)).abs().max() == 0
