"""Fewer steps: a new schedule that stops at some of the old one's steps, for any sampler to walk whole.

Every sampler here takes all steps of the schedule that it is given, so "in 10 steps" is a matter of the schedule alone
(Nichol & Dhariwal 2021, section 4: "a subsequence of the steps").
"""

from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from ddpm.diffusion.schedule import NoiseSchedule

Spacing = Literal["even", "karras"]
RHO = 7  # Karras et al. 2022, section 3


def timesteps(max_steps: int, n_steps: int) -> Int[Tensor, "stops"]:
    """Numbers of noise steps at which a chain of `n_steps` stops: 0 = t_0 < t_1 < ... < t_n = T, evenly spaced.

    T itself is among them, since only x_T is pure noise ("trailing" in Lin et al. 2023, table 2). Raises ValueError
    unless 1 <= n_steps <= max_steps.
    """
    if not 1 <= n_steps <= max_steps:
        raise ValueError(f"n_steps is {n_steps}; it must lie in 1..{max_steps}, the steps of the schedule")
    return (torch.arange(n_steps + 1, dtype=torch.float64) * max_steps / n_steps).round().long()


def stops(schedule: NoiseSchedule, n_steps: int, spacing: Spacing) -> Int[Tensor, "stops"]:
    """Where a chain of `n_steps` stops on `schedule`: 0 = t_0 < t_1 < ... < t_n = T; ValueError as `timesteps` says.

    spacing: "even" in t; or "karras", dense at both ends: even in sigma^(1/7), where sigma^2 = (1 - alpha_bar) /
    alpha_bar (Karras et al. 2022, equation 5), from step 1 to T - 1, each at the nearest step that is still free. T
    itself is set apart, since its sigma is infinite on some schedules.
    """
    even = timesteps(len(schedule), n_steps)
    if spacing == "even" or n_steps == 1:
        return even
    alpha_bar = schedule.alpha_bars[:-1]
    roots = (1 / alpha_bar - 1) ** (1 / (2 * RHO))
    wanted = roots[0] + (roots[-1] - roots[0]) * torch.linspace(0, 1, n_steps - 1).to(roots)
    nearest = 1 + (roots - wanted[:, None]).abs().argmin(1).cpu()
    order = torch.arange(1, n_steps)
    # Each stop at least one above the one before, and low enough for those that follow.
    between = (nearest - order).cummax(0).values.clamp(max=len(schedule) - n_steps) + order
    return torch.cat((even[:1], between, even[-1:]))


def respace(schedule: NoiseSchedule, kept: Int[Tensor, "stops"]) -> NoiseSchedule:
    """The schedule of n steps whose step i adds all the noise of the old steps t_{i-1} + 1 .. t_i of `kept`.

    alpha_bar at i is the old alpha_bar at t_i. kept: as `stops` gives it, from 0 to at most T.
    """
    alpha_bar = schedule.alpha_bar(kept)
    return NoiseSchedule(len(kept) - 1, schedule.device, betas=1 - alpha_bar[1:] / alpha_bar[:-1])
