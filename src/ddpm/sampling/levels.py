"""How much image and noise x_t holds, as the fast solvers' papers write it."""

from dataclasses import dataclass

import torch

from ddpm.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class Levels:
    """x_t = alpha x_0 + sigma eps, by number of steps t from 0 to T; lam = log(alpha / sigma), half the log SNR.

    Plain floats: arithmetic with them keeps a tensor's own precision. lam is inf at t = 0, where no noise is left, and
    -inf where no image is left (zero terminal SNR).
    """

    alpha: list[float]
    sigma: list[float]
    lam: list[float]


def levels(schedule: NoiseSchedule) -> Levels:
    """The levels of every step of `schedule`; alpha = sqrt(alpha_bar), sigma = sqrt(1 - alpha_bar)."""
    alpha_bar = schedule.alpha_bar(torch.arange(len(schedule) + 1))
    alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return Levels(alpha.tolist(), sigma.tolist(), (alpha / sigma).log().tolist())
