"""The solvers against the exact probability flow of Gaussian data: how fast errors fall, and that none diverges."""

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


# All samplers that follow the probability flow, as DDIM does by default (eta = 0).
SOLVERS = {name: sampler.steps for name, sampler in SAMPLERS.items() if not sampler.stochastic}
SOLVERS["ddim"] = partial(SAMPLERS["ddim"].steps, noise=no_noise)
HIGH_ORDER = {"heun", "dpmpp_2m", "dpmpp_3m", "unipc"}


def error(name, n_steps, lam=(3.0, -5.0)):
    """The largest error after n_steps even in lam, from almost pure noise to almost none. One more ends at t = 0."""
    alpha_bar = torch.linspace(*lam, n_steps + 1, dtype=torch.float64).mul(2).sigmoid()
    schedule = NoiseSchedule(n_steps + 1, betas=1 - torch.cat((alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1])))
    data = Gaussian(schedule)
    trajectory = list(SOLVERS[name](data.x0, data.flow(n_steps + 1), schedule))
    return (trajectory[-2] - data.flow(1)).abs().max().item()


# The published 3M is of second order, as it uses half of the curvature. A solver's first steps, at lam = -5, are
# of lower order, but x_t has too little of the image there for it to show.
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
def test_order_of_convergence(name, curvature, order, monkeypatch):
    if curvature:
        monkeypatch.setattr(dpm_solver, "CURVATURE", curvature)
    coarse, fine = error(name, 320), error(name, 640)
    measured = math.log2(coarse / fine)
    print(f"{name}: {coarse:.1e} {fine:.1e}, order {measured:.2f}")
    assert abs(measured - order) < 0.25  # the next order's share of the error is a few percent here
    assert fine < 1e-2


class ExactV(DiffusionModel):
    """The optimal v for Gaussian data."""

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
    """The largest error at x_0 of a chain of images of this dtype, through the whole path of a v-prediction."""
    model = ExactV(schedule)
    kept = timesteps(schedule, n_steps)
    start = model.data.flow(len(schedule)).to(dtype)
    trajectory = list(SOLVERS[name](NetworkDenoiser(model, kept), start, respace(schedule, kept)))
    assert len(trajectory) == n_steps
    assert all(x.dtype == dtype and x.isfinite().all() for x in trajectory)
    return (trajectory[-1] - model.data.flow(0)).abs().max().item()


def error_of_ddim(schedule, data):
    """In closed form: each step shrinks the standard deviation by a cosine, and the mean is exact.

    With (alpha s, sigma) as a vector at each t, whose length is the standard deviation of x_t, a DDIM step projects the
    vector on the next one. The flow rotates it without loss.
    """
    alpha_bar = schedule.alpha_bar(torch.arange(len(schedule) + 1))
    angles = torch.atan2((1 - alpha_bar).sqrt(), alpha_bar.sqrt() * data.s)
    return (data.s * (1 - angles.diff().cos().prod()) * data.z.abs().max()).item()


def check(name, found, n_steps, ddim):
    """DDIM has its known error. A higher-order solver's error is at most 5 / n of DDIM's."""
    if name == "ddim":
        assert abs(found - ddim) < 1e-5  # float32
    else:
        assert found < ddim * (5 / n_steps if name in HIGH_ORDER else 1 + 1e-5)


@pytest.mark.parametrize("n_steps", [5, 10, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_are_accurate_on_cosine_schedule(name, dtype, n_steps):
    # alpha_bar_T is 6e-8: the first step spans more of lam than all others but the last together.
    schedule = NoiseSchedule(200, betas=cosine_schedule(200))
    ddim = error_of_ddim(respace(schedule, timesteps(schedule, n_steps)), Gaussian(schedule))
    check(name, worst(name, schedule, n_steps, dtype), n_steps, ddim)


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_are_accurate_at_zero_terminal_snr(name):
    # No image at all is left at T (Lin et al. 2023): lam is -inf there.
    whole = NoiseSchedule(200, betas=cosine_schedule(200))
    schedule = respace(whole, timesteps(whole, 10))
    schedule.alpha_bars[-1] = 0.0
    data = Gaussian(schedule)
    *_, x = SOLVERS[name](data.x0, data.flow(10), schedule)
    check(name, (x - data.flow(0)).abs().max().item(), 10, error_of_ddim(schedule, data))
