"""Ancestral sampling: Algorithm 2 of Ho et al. 2020."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from ddpm.diffusion.posterior import Variance, posterior_mean, reverse_variance
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.run.params import Section
from ddpm.sampling.denoiser import Denoiser, NetworkDenoiser
from ddpm.sampling.sampler import Noise, sampler


class AncestralOptions(Section):
    """variance: sigma_t^2 of p(x_{t-1} | x_t), as in `reverse_variance`."""

    variance: Variance = "fixed_large"


@sampler(__name__, Options=AncestralOptions, stochastic=True)
def ancestral(
    denoise: Denoiser,
    x: Float[Tensor, "n c h w"],
    schedule: NoiseSchedule,
    noise: Noise,
    variance: Variance = "fixed_large",
) -> Iterator[Float[Tensor, "n c h w"]]:
    """Yield x_{T-1}, ..., x_0 from x = x_T. No noise is added at t = 1.

    Args:
        denoise: The estimate of x_0. For a learned variance, a `NetworkDenoiser` whose network has learned one.
        x: x_T.
        schedule: The schedule, of which every step is taken.
        noise: Returns standard normal noise.
        variance: sigma_t^2, as in `reverse_variance`.

    Raises:
        ValueError: variance is "learned", but the network was not trained to predict it.
    """
    for t in range(len(schedule), 0, -1):
        num_steps, v = torch.full((len(x),), t, device=x.device), None
        if variance == "learned" and isinstance(denoise, NetworkDenoiser):
            x0, v = denoise.with_variance(x, t)
        else:
            x0 = denoise(x, t)
        x = posterior_mean(x0, x, num_steps, schedule)
        if t > 1:
            x = x + reverse_variance(variance, num_steps, schedule, v).sqrt().to(x) * noise()
        yield x
