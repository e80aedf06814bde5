"""DDIM: the chain without, or with less, fresh noise (Song, Meng & Ermon 2021)."""

from collections.abc import Callable, Iterator
from math import sqrt

from jaxtyping import Float
from torch import Tensor

from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.sampling.denoiser import Denoiser
from ddpm.sampling.levels import levels


def ddim(
    denoise: Denoiser,
    x: Float[Tensor, "n c h w"],
    schedule: NoiseSchedule,
    noise: Callable[[], Float[Tensor, "n c h w"]],
    eta: float = 0.0,
) -> Iterator[Float[Tensor, "n c h w"]]:
    """Yield x_{T-1}, ..., x_0 from x = x_T by equation 12, for every step of `schedule`.

    eta: the share of the ancestral sampler's noise, equation 16: 0 follows the probability flow and never calls
    `noise`, 1 is Algorithm 2 with variance "fixed_small".
    """
    at = levels(schedule)
    for t in range(len(schedule), 0, -1):
        x0 = denoise(x, t)
        eps = (x - at.alpha[t] * x0) / at.sigma[t]
        std = eta * at.sigma[t - 1] / at.sigma[t] * sqrt(1 - (at.alpha[t] / at.alpha[t - 1]) ** 2)
        x = at.alpha[t - 1] * x0 + sqrt(at.sigma[t - 1] ** 2 - std**2) * eps
        if std > 0:
            x = x + std * noise()
        yield x
