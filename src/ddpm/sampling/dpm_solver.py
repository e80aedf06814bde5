"""DPM-Solver++, multistep: the x_0 estimate is extrapolated from the last two or three (Lu et al. 2022)."""

from collections.abc import Iterator, Sequence
from math import expm1

from jaxtyping import Float
from torch import Tensor

from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.sampling.denoiser import Denoiser
from ddpm.sampling.levels import levels

FEW_STEPS = 15
# Factor on the second-order term of 3M: 1/2 in the authors' code and in diffusers, which makes the method second order.
# With 1.0, a parabola, it would be third order (tests/sampling/test_convergence.py).
CURVATURE = 0.5


def dpm_solver(
    denoise: Denoiser, x: Float[Tensor, "n c h w"], schedule: NoiseSchedule, order: int
) -> Iterator[Float[Tensor, "n c h w"]]:
    """Yield x_{T-1}, ..., x_0 from x = x_T by DPM-Solver++(2M) or (3M).

    The probability-flow ODE is solved exactly except for x_0 as a function of lam (proposition 4.1), which is
    approximated by a polynomial through the last estimates. The first steps have fewer estimates. The last step, where
    lam becomes infinite, is first order. With fewer than FEW_STEPS steps, the one before it is at most second order, as
    the authors recommend.

    Args:
        denoise: The estimate of x_0.
        x: x_T.
        schedule: The schedule, of which every step is taken.
        order: 2 or 3.
    """
    at, n = levels(schedule), len(schedule)
    past: list[tuple[float, Tensor]] = []  # (lam, x0), newest first
    for t in range(n, 0, -1):
        past = [(at.lam[t], denoise(x, t)), *past][:order]
        highest = t if t == 1 or n < FEW_STEPS else order
        h = at.lam[t - 1] - at.lam[t]
        x = at.sigma[t - 1] / at.sigma[t] * x + at.alpha[t - 1] * _integral(past[:highest], h)
        yield x


def _integral(past: Sequence[tuple[float, Tensor]], h: float) -> Tensor:
    """The integral of exp(u - h) x0(u) over u = 0..h, lam = lam_t + u, with x0(u) through one, two or three estimates.

    `past` holds (lam, x0), newest first, and h is the step in lam.
    """
    (lam, x0), *older = past
    if not older:
        return -expm1(-h) * x0
    slope = (x0 - older[0][1]) / (lam - older[0][0])
    if len(older) == 1:
        return -expm1(-h) * (x0 + h / 2 * slope)  # Algorithm 2 of the paper
    curvature = (slope - (older[0][1] - older[1][1]) / (older[0][0] - older[1][0])) / (lam - older[1][0])
    slope = slope + (lam - older[0][0]) * curvature
    return -expm1(-h) * x0 + (h + expm1(-h)) * slope + CURVATURE * (h * h - 2 * (h + expm1(-h))) * curvature
