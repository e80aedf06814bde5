"""Spacing: the timesteps of a shorter chain, and their noise levels."""

import pytest
import torch
from analytic import Linear, streams
from diffusers import DPMSolverMultistepScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.sampling.chain import sample_steps
from ddpm.sampling.sampler import SAMPLERS
from ddpm.sampling.samplers.ancestral import AncestralOptions
from ddpm.sampling.samplers.ddim import DdimOptions
from ddpm.sampling.spacing import respace, timesteps


@settings(deadline=None)
@given(st.integers(1, 1000), st.data())
def test_even_timesteps_are_evenly_spaced_up_to_max_steps(max_steps, data):
    n_steps = data.draw(st.integers(1, max_steps))
    kept = timesteps(NoiseSchedule(max_steps), n_steps)
    assert (len(kept), kept[0], kept[-1]) == (n_steps + 1, 0, max_steps)
    gaps = kept.diff()
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1 if max_steps % n_steps else gaps.max() == gaps.min()


@settings(deadline=None)
@given(st.integers(2, 1000), st.sampled_from(["linear", "cosine"]), st.data())
def test_karras_timesteps_increase_up_to_max_steps(max_steps, name, data):
    n_steps = data.draw(st.integers(1, max_steps))
    kept = timesteps(NoiseSchedule(max_steps, betas=SCHEDULES[name](max_steps)), n_steps, "karras")
    assert (len(kept), kept[0], kept[-1]) == (n_steps + 1, 0, max_steps)
    assert kept.diff().min() >= 1
    if n_steps > 2:
        assert (kept[1], kept[-2]) == (1, max_steps - 1)


def test_karras_timesteps_match_sigmas_of_diffusers():
    schedule = NoiseSchedule(1000)
    sigma = (1 / schedule.alpha_bars - 1).sqrt()
    theirs = DPMSolverMultistepScheduler(1000)._convert_to_karras(sigma[:-1].flip(0).numpy(), 9)
    kept = timesteps(schedule, 10, "karras")
    assert kept[-1] == 1000
    # Rounding moves a timestep by at most half a step, 1.7 % of sigma at t = 25, the lowest but 1.
    ours, theirs = sigma[kept[1:-1] - 1], torch.tensor(theirs.tolist()).flip(0)
    assert (ours / theirs - 1).abs().max() < 0.018


@pytest.mark.parametrize("n_steps", [0, 11])
def test_timesteps_rejects_n_steps_out_of_range(n_steps):
    with pytest.raises(ValueError, match=rf"n_steps is {n_steps}; it must be in 1\.\.10"):
        timesteps(NoiseSchedule(10), n_steps)
    with pytest.raises(ValueError, match=rf"n_steps is {n_steps}; it must be in 1\.\.10"):
        timesteps(NoiseSchedule(10), n_steps, "karras")


@pytest.mark.parametrize("name", SCHEDULES)
def test_respace_keeps_alpha_bar_of_each_timestep(name):
    schedule = NoiseSchedule(200, betas=SCHEDULES[name](200))
    kept = timesteps(schedule, 7)
    respaced = respace(schedule, kept)
    assert (respaced.alpha_bar(torch.arange(8)) - schedule.alpha_bar(kept)).abs().max() < 1e-15
    assert (respace(schedule, timesteps(schedule)).betas - schedule.betas).abs().max() < 1e-15


def test_network_is_called_with_original_timesteps():
    asked = []

    class Asked(Linear):
        def forward(self, images, num_steps):
            asked.append(num_steps.tolist())
            return super().forward(images, num_steps)

    trajectory = list(sample_steps(Asked(20), streams(2), timesteps(NoiseSchedule(20), 4)))
    assert asked == [[20, 20], [15, 15], [10, 10], [5, 5]]
    assert len(trajectory) == 5


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_number_of_evaluations_is_as_declared(sampler):
    model, n_steps, asked = Linear(20), 8, []
    model.register_forward_hook(lambda *_: asked.append(1))
    trajectory = list(sample_steps(model, streams(1), timesteps(NoiseSchedule(20), n_steps), sampler))
    assert len(trajectory) == n_steps + 1
    assert len(asked) == SAMPLERS[sampler].evaluations(n_steps)


def test_ddim_with_eta_1_matches_ancestral():
    # Song et al. 2021, section 4.1: sigma of equation 16 at eta = 1 is Ho et al.'s smaller one.
    model, kept = Linear(20), timesteps(NoiseSchedule(20), 6)
    ddim = sample_steps(model, streams(2), kept, "ddim", options=DdimOptions(eta=1.0))
    ancestral = sample_steps(model, streams(2), kept, "ancestral", options=AncestralOptions(variance="fixed_small"))
    for ours, theirs in zip(ddim, ancestral, strict=True):
        assert (ours - theirs).abs().max() < 1e-5  # float32, with values up to 4
