"""Algorithm 2: from pure noise to an image, one step of the reverse chain at a time (Ho et al. 2020)."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from ddpm.diffusion.posterior import Variance, posterior_mean, reverse_variance
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.sampling.denoiser import Denoiser, VarianceDenoiser


def ancestral(
    denoise: Denoiser | VarianceDenoiser,
    x: Float[Tensor, "n c h w"],
    schedule: NoiseSchedule,
    noise: Callable[[], Float[Tensor, "n c h w"]],
    variance: Variance = "fixed_large",
) -> Iterator[Float[Tensor, "n c h w"]]:
    """Yield x_{T-1}, ..., x_0 from x = x_T, for every step of `schedule`.

    noise: gives fresh standard normal noise at each call. variance: sigma_t^2, as `reverse_variance` has it; "learned"
    takes a `VarianceDenoiser` of a network that has learned one. No noise is added at t = 1.
    """
    for t in range(len(schedule), 0, -1):
        num_steps = torch.full((len(x),), t, device=x.device)
        said = denoise(x, t)
        x0, v = said if isinstance(said, tuple) else (said, None)
        x = posterior_mean(x0, x, num_steps, schedule)
        if t > 1:
            sigma2 = reverse_variance(variance, num_steps, schedule, v)
            x = x + sigma2.sqrt().to(x) * noise()
        yield x
