"""Sampling in fewer steps: a schedule of n steps from a subset of the timesteps of the trained one.

A sampler takes every step of its schedule, so respacing only changes the schedule (Nichol & Dhariwal 2021, section 4).
"""

from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

from ddpm.diffusion.schedule import NoiseSchedule

Spacing = Callable[[NoiseSchedule, int], Int[Tensor, "n_plus_1"]]
SPACINGS: dict[str, Spacing] = {}
RHO = 7  # Karras et al. 2022, section 3


def spacing(function: Spacing) -> Spacing:
    """Decorator: a spacing that params.yaml can name, by the function's name."""
    SPACINGS[function.__name__] = function
    return function


@spacing
def even(schedule: NoiseSchedule, n_steps: int) -> Int[Tensor, "n_plus_1"]:
    """Evenly spaced in t ("trailing" in Lin et al. 2023, table 2)."""
    return (torch.arange(n_steps + 1, dtype=torch.float64) * len(schedule) / n_steps).round().long()


@spacing
def karras(schedule: NoiseSchedule, n_steps: int) -> Int[Tensor, "n_plus_1"]:
    """Dense at both ends: even in sigma^(1/7), sigma^2 = (1 - alpha_bar) / alpha_bar (Karras et al. 2022, equation 5).

    The spacing covers timesteps 1 to T - 1, each value rounded to the nearest unused timestep. T is added separately,
    since its sigma is infinite on some schedules.
    """
    ends = even(schedule, n_steps)
    if n_steps == 1:
        return ends
    alpha_bar = schedule.alpha_bars[:-1]
    roots = (1 / alpha_bar - 1) ** (1 / (2 * RHO))
    wanted = roots[0] + (roots[-1] - roots[0]) * torch.linspace(0, 1, n_steps - 1).to(roots)
    nearest = 1 + (roots - wanted[:, None]).abs().argmin(1).cpu()
    order = torch.arange(1, n_steps)
    # Each timestep is larger than the one before, and leaves room for those that follow.
    between = (nearest - order).cummax(0).values.clamp(max=len(schedule) - n_steps) + order
    return torch.cat((ends[:1], between, ends[-1:]))


def check_spacing(name: str) -> str:
    """Pydantic validator: return `name` if it is the name of a spacing.

    Raises:
        ValueError: There is no such spacing. The message lists the existing ones.
    """
    if name not in SPACINGS:
        raise ValueError(f"{name!r} is not a spacing; allowed: {', '.join(SPACINGS)}")
    return name


def timesteps(schedule: NoiseSchedule, n_steps: int | None = None, spacing: str = "even") -> Int[Tensor, "n_plus_1"]:
    """The timesteps of a chain of `n_steps`: 0 = t_0 < t_1 < ... < t_n = T.

    T is always included, since only x_T is pure noise.

    Args:
        schedule: The schedule that the network was trained on.
        n_steps: Number of steps, from 1 to T, or None for T.
        spacing: A key of SPACINGS.

    Raises:
        ValueError: n_steps or spacing is not allowed.
    """
    n_steps = len(schedule) if n_steps is None else n_steps
    if not 1 <= n_steps <= len(schedule):
        raise ValueError(f"n_steps is {n_steps}; it must be in 1..{len(schedule)}, the steps of the schedule")
    return SPACINGS[check_spacing(spacing)](schedule, n_steps)


def respace(schedule: NoiseSchedule, timesteps: Int[Tensor, "n_plus_1"]) -> NoiseSchedule:
    """The schedule of n steps whose step i adds the noise of the original steps t_{i-1} + 1 to t_i.

    Its alpha_bar at i is the original alpha_bar at t_i.

    Args:
        schedule: The schedule that the network was trained on.
        timesteps: As returned by `timesteps`, from 0 to at most T.
    """
    alpha_bar = schedule.alpha_bar(timesteps)
    return NoiseSchedule(len(timesteps) - 1, schedule.device, betas=1 - alpha_bar[1:] / alpha_bar[:-1])
