"""Algorithm 2: from pure noise to an image, one step of the reverse chain at a time (Ho et al. 2020)."""

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ddpm.diffusion.posterior import posterior_mean, posterior_variance
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.sampling.denoiser import Denoiser

Variance = Literal["fixed_large", "fixed_small"]


def ancestral(
    denoise: Denoiser,
    x: Float[Tensor, "n c h w"],
    schedule: NoiseSchedule,
    noise: Callable[[], Float[Tensor, "n c h w"]],
    variance: Variance = "fixed_large",
) -> Iterator[Float[Tensor, "n c h w"]]:
    """Yield x_{T-1}, ..., x_0 from x = x_T, for every step of `schedule`.

    noise: gives fresh standard normal noise at each call. variance: sigma_t^2 = beta_t ("fixed_large") or beta_tilde_t
    of equation 7 ("fixed_small"), section 3.2. No noise is added at t = 1.
    """
    for t in range(len(schedule), 0, -1):
        num_steps = torch.full((len(x),), t, device=x.device)
        x = posterior_mean(denoise(x, t), x, num_steps, schedule)
        if t > 1:
            sigma2 = schedule.beta(t) if variance == "fixed_large" else posterior_variance(t, schedule)
            x = x + sigma2.sqrt().to(x) * noise()
        yield x
