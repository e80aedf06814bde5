"""The solvers against the exact probability flow of Gaussian data: how fast the error falls, and that none blows up."""

import math
from functools import partial

import pytest
import torch
from analytic import SHAPE, Gaussian

from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.sampling import dpm_solver
from ddpm.sampling.denoiser import NetworkDenoiser
from ddpm.sampling.sampler import SAMPLERS
from ddpm.sampling.spacing import respace, timesteps


def no_noise():
    pytest.fail("the probability flow has no fresh noise")


# Every sampler that follows the probability flow: all but the one that always adds noise.
SOLVERS = {
    name: partial(sampler.steps, **({"noise": no_noise} if sampler.stochastic else {}))
    for name, sampler in SAMPLERS.items()
    if name != "ancestral"
}


def error(name, n_steps, lam=(3.0, -5.0)):
    """The largest after n_steps evenly spaced in lam, from nearly pure noise to nearly none; one more step is t = 0."""
    alpha_bar = torch.linspace(*lam, n_steps + 1, dtype=torch.float64).mul(2).sigmoid()
    schedule = NoiseSchedule(n_steps + 1, betas=1 - torch.cat((alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1])))
    data = Gaussian(schedule)
    trajectory = list(SOLVERS[name](data.x0, data.flow(n_steps + 1), schedule))
    return (trajectory[-2] - data.flow(1)).abs().max().item()


# The published 3M is of second order, for it takes half of its curvature. What starts a solver up, at lam = -5, is of
# lower order, but there is so little image in x_t that it does not show.
@pytest.mark.parametrize(
    ("name", "curvature", "order"),
    [
        ("ddim", None, 1),
        ("heun", None, 2),
        ("dpmpp_2m", None, 2),
        ("dpmpp_3m", 0.5, 2),
        ("dpmpp_3m", 1.0, 3),
        ("unipc", None, 3),
    ],
)
def test_the_order_of_convergence(name, curvature, order, monkeypatch):
    if curvature:
        monkeypatch.setattr(dpm_solver, "CURVATURE", curvature)
    coarse, fine = error(name, 320), error(name, 640)
    measured = math.log2(coarse / fine)
    print(f"{name}: {coarse:.1e} {fine:.1e}, order {measured:.2f}")
    assert abs(measured - order) < 0.25  # the next order's share of the error is a few percent here
    assert fine < 1e-2


class ExactV(DiffusionModel):
    """The v that is best for Gaussian data."""

    img_shape = SHAPE

    def __init__(self, schedule):
        super().__init__()
        self.prediction = "v"
        self.noise_schedule, self.data = schedule, Gaussian(schedule)

    def forward(self, images, num_steps):
        t = int(num_steps[0])
        alpha_bar = self.data.alpha_bars[t]
        return (alpha_bar**0.5 * images - self.data.x0(images, t)) / (1 - alpha_bar) ** 0.5


def worst(name, schedule, n_steps, dtype):
    """The largest error at x_0 of a chain of float32 or float64 images, through the whole path of a v-prediction."""
    model = ExactV(schedule)
    kept = timesteps(schedule, n_steps)
    start = model.data.flow(len(schedule)).to(dtype)
    trajectory = list(SOLVERS[name](NetworkDenoiser(model, kept), start, respace(schedule, kept)))
    assert len(trajectory) == n_steps
    assert all(x.dtype == dtype and x.isfinite().all() for x in trajectory)
    return (trajectory[-1] - model.data.flow(0)).abs().max().item()


# Measured in float64: DDIM 0.34, 0.18, 0.093; the others at most 0.26, 0.060, 0.019. The bounds leave a tenth of room.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SOLVERS)
def test_the_cosine_schedules_last_step_is_no_trouble(name, dtype):
    # alpha_bar_T is 6e-8: the first step spans more of lam than all others but the last together.
    schedule = NoiseSchedule(200, betas=cosine_schedule(200))
    bounds = {5: 0.38, 10: 0.2, 20: 0.1} if name == "ddim" else {5: 0.29, 10: 0.066, 20: 0.021}
    for n_steps, bound in bounds.items():
        assert worst(name, schedule, n_steps, dtype) < bound


@pytest.mark.parametrize("name", SOLVERS)
def test_zero_terminal_snr(name):
    # No image at all is left at T (Lin et al. 2023): lam is -inf there.
    whole = NoiseSchedule(200, betas=cosine_schedule(200))
    schedule = respace(whole, timesteps(whole, 10))
    schedule.alpha_bars[-1] = 0.0
    data = Gaussian(schedule)
    *_, x = SOLVERS[name](data.x0, data.flow(10), schedule)
    assert (x - data.flow(0)).abs().max() < (0.2 if name == "ddim" else 0.066)  # as on the cosine schedule
