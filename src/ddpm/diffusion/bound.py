"""The terms of the variational bound (Ho et al. 2020, equations 5, 8 and 13), per pixel, in nats."""

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from torch.special import log_ndtr

from ddpm.diffusion.posterior import posterior_mean, posterior_variance
from ddpm.diffusion.schedule import NoiseSchedule

HALF_BIN = 1 / 255  # 8-bit levels are 2 / 255 apart in [-1, 1]


def gaussian_kl(
    mean_q: Float[Tensor, "*shape"],
    variance_q: float | Float64[Tensor, "*#shape"],
    mean_p: Float[Tensor, "*shape"],
    variance_p: float | Float64[Tensor, "*#shape"],
) -> Float64[Tensor, "*shape"]:
    """KL(N(mean_q, variance_q) || N(mean_p, variance_p)) per pixel, in nats: L_1 to L_T of equation 5."""
    ratio = torch.as_tensor(variance_q / variance_p, dtype=torch.float64)
    return (ratio - 1 - ratio.log() + (mean_q.double() - mean_p.double()) ** 2 / variance_p) / 2


def decoder_log_likelihood(
    x0: Float[Tensor, "*shape"], mean: Float[Tensor, "*shape"], variance: float | Float64[Tensor, "*#shape"]
) -> Float64[Tensor, "*shape"]:
    """log p(x_0 | x_1) of the discrete decoder (equation 13).

    The probability of a level is the mass of a Gaussian within 1/255 of it. The bins at -1 and 1 extend to infinity.

    Args:
        x0: 8-bit levels mapped to [-1, 1]. The probabilities of all 256 levels sum to 1.
        mean: Mean of the Gaussian.
        variance: Variance of the Gaussian.

    Returns:
        Log-probabilities per pixel, in nats.
    """
    # log_ndtr is accurate in the lower tail, so an x0 above the mean is mirrored.
    x0, mean = x0.double(), mean.double()
    above = x0 > mean
    x0, mean = torch.where(above, -x0, x0), torch.where(above, -mean, mean)
    lower, upper = ((x0 + side * HALF_BIN - mean) / variance**0.5 for side in (-1, 1))
    lower = torch.where(x0 < -1 + HALF_BIN, -torch.inf, lower)
    upper = torch.where(x0 > 1 - HALF_BIN, torch.inf, upper)
    high, low = log_ndtr(upper), log_ndtr(lower)
    return high + torch.log(-torch.expm1(low - high))


def bound_term(
    x0: Float[Tensor, "b c h w"],
    estimate: Float[Tensor, "b c h w"],
    xt: Float[Tensor, "b c h w"],
    num_steps: Int[Tensor, "b"],
    schedule: NoiseSchedule,
    sigma2: Float64[Tensor, "b #c #h #w"],
) -> Float64[Tensor, "b c h w"]:
    """The term of the bound at timestep t: L_{t-1} (equation 8), or L_0 at t = 1 (equation 13).

    Args:
        x0: 8-bit levels mapped to [-1, 1].
        estimate: The estimate of x_0 from x_t.
        xt: x_t.
        num_steps: t of each image, from 1 to T.
        schedule: A noise schedule of at least 2 steps.
        sigma2: The variance of p(x_{t-1} | x_t), from `reverse_variance`.

    Returns:
        The term per pixel, in nats.

    Raises:
        IndexError: The schedule has 1 step.
    """
    x0, estimate, xt = x0.double(), estimate.double(), xt.double()
    mean = posterior_mean(estimate, xt, num_steps, schedule)
    # At t = 1 the KL is replaced below, but beta_tilde_1 = 0 would make its gradient NaN.
    true_variance = posterior_variance(num_steps.clamp(min=2), schedule).reshape(-1, 1, 1, 1)
    nats = gaussian_kl(posterior_mean(x0, xt, num_steps, schedule), true_variance, mean, sigma2)
    first = num_steps == 1
    nats[first] = -decoder_log_likelihood(x0[first], mean[first], sigma2[first])
    return nats
