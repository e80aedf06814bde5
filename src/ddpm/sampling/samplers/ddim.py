"""DDIM: sampling with less noise per step, or none (Song, Meng & Ermon 2021)."""

from collections.abc import Iterator
from math import sqrt
from typing import Annotated

from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.run.params import Section
from ddpm.sampling.denoiser import Denoiser
from ddpm.sampling.levels import levels
from ddpm.sampling.sampler import Noise, sampler


class DdimOptions(Section):
    """eta: from 0 (deterministic) to 1 (as much noise as Algorithm 2 with variance fixed_small)."""

    eta: Annotated[float, Ge(0), Le(1)] = 0.0


@sampler(__name__, Options=DdimOptions, stochastic=True)
def ddim(
    denoise: Denoiser, x: Float[Tensor, "n c h w"], schedule: NoiseSchedule, noise: Noise, eta: float = 0.0
) -> Iterator[Float[Tensor, "n c h w"]]:
    """Yield x_{T-1}, ..., x_0 from x = x_T by equation 12.

    Args:
        denoise: The estimate of x_0.
        x: x_T.
        schedule: The schedule, of which every step is taken.
        noise: Returns standard normal noise. Not called if eta is 0.
        eta: Factor on the noise of equation 16, from 0 (probability flow) to 1 (Algorithm 2 with fixed_small).
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
