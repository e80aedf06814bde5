"""The pieces of the variational bound (Ho et al. 2020, equations 5, 8 and 13), pixel by pixel, in nats."""

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from torch.special import log_ndtr

from ddpm.diffusion.posterior import posterior_mean, posterior_variance
from ddpm.diffusion.schedule import NoiseSchedule

HALF_BIN = 1 / 255  # 8-bit levels lie 2 / 255 apart in [-1, 1]


def gaussian_kl(
    mean_q: Float[Tensor, "*shape"],
    variance_q: float | Float64[Tensor, "*#shape"],
    mean_p: Float[Tensor, "*shape"],
    variance_p: float | Float64[Tensor, "*#shape"],
) -> Float64[Tensor, "*shape"]:
    """KL(N(mean_q, variance_q) || N(mean_p, variance_p)) of each pixel: what equation 5 consists of."""
    ratio = torch.as_tensor(variance_q / variance_p, dtype=torch.float64)
    return (ratio - 1 - ratio.log() + (mean_q.double() - mean_p.double()) ** 2 / variance_p) / 2


def decoder_log_likelihood(
    x0: Float[Tensor, "*shape"], mean: Float[Tensor, "*shape"], variance: float | Float64[Tensor, "*#shape"]
) -> Float64[Tensor, "*shape"]:
    """log p(x0 | x1), equation 13: the Gaussian's mass within 1/255 of x0, and beyond it at -1 and 1.

    x0: 8-bit levels mapped to [-1, 1], for which the 256 probabilities sum to 1.
    """
    # Mirrored where x0 lies above the mean: in the lower tail, log_ndtr keeps its digits.
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
    """L_{t-1} (equation 8) of p(x_{t-1} | x_t), and where t = 1 the L_0 of the discrete decoder (equation 13).

    x0: 8-bit levels mapped to [-1, 1]; estimate: the x_0 that the network sees in `xt`; sigma2: its variance, as
    `reverse_variance` gives it. IndexError for a schedule of 1 step.
    """
    x0, estimate, xt = x0.double(), estimate.double(), xt.double()
    mean = posterior_mean(estimate, xt, num_steps, schedule)
    # At t = 1 its value is not used, but it must have finite gradients: beta_tilde_1 is 0.
    true_variance = posterior_variance(num_steps.clamp(min=2), schedule).reshape(-1, 1, 1, 1)
    nats = gaussian_kl(posterior_mean(x0, xt, num_steps, schedule), true_variance, mean, sigma2)
    first = num_steps == 1
    nats[first] = -decoder_log_likelihood(x0[first], mean[first], sigma2[first])
    return nats
