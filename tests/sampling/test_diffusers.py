"""Every fast sampler, step by step, against diffusers' scheduler of the same name, same noise and model."""

import pytest
import torch
from analytic import SHAPE, Linear
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)

from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.run.seeding import generator
from ddpm.sampling.denoiser import NetworkDenoiser
from ddpm.sampling.sampler import SAMPLERS
from ddpm.sampling.samplers.unipc import unipc
from ddpm.sampling.spacing import respace, timesteps

T = 200
NAMES = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}
CASES = [("linear", "eps"), ("rescaled_linear", "x0"), ("cosine", "v")]
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers and numpy 2
TOLERANCE = 1e-5  # some of diffusers' schedulers always compute in float32, and values reach 5


def setting(schedule, prediction, n_steps):
    """A model with its schedule, x_T, and the timesteps kept, all in float64."""
    model = Linear(T, a=0.4, b=0.002, prediction=prediction).double()
    model.noise_schedule = NoiseSchedule(T, betas=SCHEDULES[schedule](T))
    x = torch.randn(2, *SHAPE, dtype=torch.float64, generator=generator(0, "start"))
    return model, x, timesteps(model.noise_schedule, n_steps)


def ours(sampler, model, x, kept, clip_sample=False, **options):
    denoise = NetworkDenoiser(model, kept, clip_sample)
    return list(sampler(denoise, x, respace(model.noise_schedule, kept), **options))


def prepare(scheduler, model, n_steps):
    """Set diffusers' scheduler up for the same steps, its float32 tables replaced by exact ones."""
    scheduler.alphas_cumprod = model.noise_schedule.alpha_bars
    scheduler.set_timesteps(n_steps)
    assert (scheduler.timesteps.unique() + 1).tolist() == timesteps(model.noise_schedule, n_steps)[
        1:
    ].tolist()  # theirs count from 0
    if hasattr(scheduler, "sigmas"):
        alpha_bar = torch.cat((model.noise_schedule.alpha_bars[scheduler.timesteps.long()], torch.ones(1)))
        scheduler.sigmas = ((1 - alpha_bar) / alpha_bar).sqrt()
    return scheduler


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() < TOLERANCE


def said(model, x, t):
    with torch.no_grad():
        return model(x, torch.full((len(x),), int(t) + 1))


@pytest.mark.parametrize("variance", ["fixed_large", "fixed_small"])
@pytest.mark.parametrize("n_steps", [5, 40])
def test_respaced_ancestral_matches_diffusers(n_steps, variance, monkeypatch):
    model, x, kept = setting("linear", "eps", n_steps)
    noise = torch.randn(n_steps, *x.shape, dtype=torch.float64, generator=generator(0, "noise"))
    noise[-1] = 0  # ours adds none at the last step, but theirs would unless that is timestep 1
    trajectory = ours(SAMPLERS["ancestral"].steps, model, x, kept, variance=variance, noise=iter(noise).__next__)
    theirs = DDPMScheduler(T, variance_type=variance, clip_sample=False, timestep_spacing="trailing")
    theirs = prepare(theirs, model, n_steps)
    drawn = iter(noise)
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: next(drawn))
    for t, after in zip(theirs.timesteps, trajectory, strict=True):
        x = theirs.step(said(model, x, t), t, x).prev_sample
        assert (after - x).abs().max() < TOLERANCE


class Varied(Linear):
    """With a variance: v of equation 15 is 0.2 + 0.1 x."""

    def with_variance(self, images, num_steps):
        return self(images, num_steps), 0.2 + 0.1 * images


@pytest.mark.parametrize(("schedule", "prediction"), CASES)
@pytest.mark.parametrize("n_steps", [5, T])
def test_ancestral_with_learned_variance_matches_diffusers(schedule, prediction, n_steps, monkeypatch):
    model, x, kept = setting(schedule, prediction, n_steps)
    model.__class__ = Varied
    noise = torch.randn(n_steps, *x.shape, dtype=torch.float64, generator=generator(0, "noise"))
    noise[-1] = 0
    denoise = NetworkDenoiser(model, kept)
    chain = respace(model.noise_schedule, kept)
    trajectory = SAMPLERS["ancestral"].steps(denoise, x, chain, noise=iter(noise).__next__, variance="learned")
    theirs = DDPMScheduler(
        T,
        variance_type="learned_range",
        prediction_type=NAMES[prediction],
        clip_sample=False,
        timestep_spacing="trailing",
    )
    theirs = prepare(theirs, model, n_steps)
    drawn = iter(noise)
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: next(drawn))
    for t, after in zip(theirs.timesteps, trajectory, strict=True):
        raw = 2 * (0.2 + 0.1 * x) - 1  # theirs takes it in [-1, 1], as additional channels
        x = theirs.step(torch.cat((said(model, x, t), raw), dim=1), t, x).prev_sample
        assert (after - x).abs().max() < TOLERANCE


@pytest.mark.parametrize(("schedule", "prediction"), CASES)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("clip_sample", [False, True, 0.9])
def test_ddim_matches_diffusers(schedule, prediction, eta, clip_sample):
    model, x, kept = setting(schedule, prediction, 20)
    noise = torch.randn(20, *x.shape, dtype=torch.float64, generator=generator(0, "noise"))
    trajectory = ours(SAMPLERS["ddim"].steps, model, x, kept, clip_sample, eta=eta, noise=iter(noise).__next__)
    clipping = {"clip_sample": clip_sample is True, "thresholding": clip_sample == 0.9, "sample_max_value": 1e9}
    theirs = DDIMScheduler(
        T, prediction_type=NAMES[prediction], dynamic_thresholding_ratio=0.9, timestep_spacing="trailing", **clipping
    )
    theirs = prepare(theirs, model, 20)
    for t, after, fresh in zip(theirs.timesteps, trajectory, noise, strict=True):
        # Clipping changes the noise implied by an estimate. By default, theirs keeps the unclipped noise.
        step = theirs.step(said(model, x, t), t, x, eta, use_clipped_model_output=True, variance_noise=fresh)
        x = step.prev_sample
        assert (after - x).abs().max() < TOLERANCE


def multistep(scheduler, model, x):
    for t in scheduler.timesteps:
        x = scheduler.step(said(model, x, t), t, x).prev_sample
        yield x


@pytest.mark.parametrize(("schedule", "prediction"), CASES)
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("n_steps", [5, 14, 15, 40])  # with fewer than 15 the last steps are of lower order
def test_dpm_solver_matches_diffusers(schedule, prediction, order, n_steps):
    model, x, kept = setting(schedule, prediction, n_steps)
    trajectory = ours(SAMPLERS[f"dpmpp_{order}m"].steps, model, x, kept)
    theirs = DPMSolverMultistepScheduler(
        T, solver_order=order, prediction_type=NAMES[prediction], timestep_spacing="trailing"
    )
    assert_same(trajectory, multistep(prepare(theirs, model, n_steps), model, x))


@pytest.mark.parametrize(("schedule", "prediction"), CASES)
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("n_steps", [5, 10, 40])
def test_unipc_matches_diffusers(schedule, prediction, order, n_steps):
    model, x, kept = setting(schedule, prediction, n_steps)
    trajectory = ours(unipc, model, x, kept, order=order)
    theirs = UniPCMultistepScheduler(
        T, solver_order=order, prediction_type=NAMES[prediction], timestep_spacing="trailing"
    )
    assert_same(trajectory, multistep(prepare(theirs, model, n_steps), model, x))


@pytest.mark.parametrize(("schedule", "prediction"), CASES[:2])  # on cosine ours skips the first correction
@pytest.mark.parametrize("n_steps", [5, 10, 40])
def test_heun_matches_diffusers(schedule, prediction, n_steps):
    model, x, kept = setting(schedule, prediction, n_steps)
    trajectory = ours(SAMPLERS["heun"].steps, model, x, kept)
    theirs = prepare(
        HeunDiscreteScheduler(T, prediction_type=NAMES[prediction], timestep_spacing="trailing"), model, n_steps
    )
    x = x * (theirs.sigmas[0] ** 2 + 1).sqrt()  # theirs is x / alpha
    stages = []
    for i, t in enumerate(theirs.timesteps):
        x = theirs.step(said(model, theirs.scale_model_input(x, t), t), t, x).prev_sample
        stages.append(x / (theirs.sigmas[i + 1] ** 2 + 1).sqrt())
    assert_same(
        trajectory, stages[1::2] + stages[-1:]
    )  # a prediction and its correction each, then the last step alone
