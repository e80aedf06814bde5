"""Signal and noise levels of x_t, in the notation of the fast solvers' papers."""

from dataclasses import dataclass

import torch

from ddpm.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class Levels:
    """The coefficients in x_t = alpha x_0 + sigma eps and lam = log(alpha / sigma), half the log SNR, for t = 0..T.

    They are Python floats, which do not change the dtype of tensors. lam is inf at t = 0, where there is no noise, and
    -inf where there is no signal (zero terminal SNR).
    """

    alpha: list[float]
    sigma: list[float]
    lam: list[float]


def levels(schedule: NoiseSchedule) -> Levels:
    """The levels of every step of `schedule`, with alpha = sqrt(alpha_bar) and sigma = sqrt(1 - alpha_bar)."""
    alpha_bar = schedule.alpha_bar(torch.arange(len(schedule) + 1))
    alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return Levels(alpha.tolist(), sigma.tolist(), (alpha / sigma).log().tolist())
