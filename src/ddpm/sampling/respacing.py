"""Fewer steps: a new schedule that stops at some of the old one's steps, for any sampler to walk whole.

Every sampler here takes all steps of the schedule that it is given, so "in 10 steps" is a matter of the schedule alone
(Nichol & Dhariwal 2021, section 4: "a subsequence of the steps").
"""

import torch
from jaxtyping import Int
from torch import Tensor

from ddpm.diffusion.schedule import NoiseSchedule


def timesteps(max_steps: int, n_steps: int) -> Int[Tensor, "stops"]:
    """Numbers of noise steps at which a chain of `n_steps` stops: 0 = t_0 < t_1 < ... < t_n = T, evenly spaced.

    T itself is among them, since only x_T is pure noise ("trailing" in Lin et al. 2023, table 2). Raises ValueError
    unless 1 <= n_steps <= max_steps.
    """
    if not 1 <= n_steps <= max_steps:
        raise ValueError(f"n_steps is {n_steps}; it must lie in 1..{max_steps}, the steps of the schedule")
    return (torch.arange(n_steps + 1, dtype=torch.float64) * max_steps / n_steps).round().long()


def respace(schedule: NoiseSchedule, kept: Int[Tensor, "stops"]) -> NoiseSchedule:
    """The schedule of n steps whose step i adds all the noise of the old steps t_{i-1} + 1 .. t_i of `kept`.

    alpha_bar at i is the old alpha_bar at t_i. kept: as `timesteps` gives it, from 0 to at most T.
    """
    alpha_bar = schedule.alpha_bar(kept)
    return NoiseSchedule(len(kept) - 1, schedule.device, betas=1 - alpha_bar[1:] / alpha_bar[:-1])
