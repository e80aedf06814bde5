"""Heun's method on the probability-flow ODE (Karras et al. 2022, Algorithm 1)."""

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.sampling.denoiser import Denoiser
from ddpm.sampling.levels import levels
from ddpm.sampling.sampler import sampler

# The weight of a correction is about alpha_{t-1} / alpha_t. At nearly pure noise (t = T on the cosine schedule) that is
# in the hundreds, and the corrected step is far worse than Euler's.
MAX_WEIGHT = 10.0


@sampler(__name__, min_steps=2, evaluations=lambda n_steps: 2 * n_steps - 1)
def heun(denoise: Denoiser, x: Float[Tensor, "n c h w"], schedule: NoiseSchedule) -> Iterator[Float[Tensor, "n c h w"]]:
    """Yield x_{T-1}, ..., x_0 from x = x_T at second order, with two evaluations per step.

    x / alpha as a function of sigma / alpha has slope eps. An Euler step, which is a DDIM step, is corrected with the
    mean of the slopes at its two ends. The last step, and steps whose correction would have a weight above MAX_WEIGHT,
    are not corrected.

    Args:
        denoise: The estimate of x_0.
        x: x_T.
        schedule: The schedule, of which every step is taken.
    """
    at = levels(schedule)
    for t in range(len(schedule), 0, -1):
        x0 = denoise(x, t)
        eps = (x - at.alpha[t] * x0) / at.sigma[t]
        x = at.alpha[t - 1] * x0 + at.sigma[t - 1] * eps
        if t > 1 and at.alpha[t - 1] <= MAX_WEIGHT * at.alpha[t]:
            slope = (x - at.alpha[t - 1] * denoise(x, t - 1)) / at.sigma[t - 1]
            x = x + (at.sigma[t - 1] - at.sigma[t] * at.alpha[t - 1] / at.alpha[t]) * (slope - eps) / 2
        yield x
