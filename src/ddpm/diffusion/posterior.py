"""Parametrisations of the prediction, and the posterior q(x_{t-1} | x_t, x_0) (Ho et al. 2020, section 3.2).

Given x_t, a prediction of the noise, the image, v or the posterior mean determines the others, because
x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps (equation 4).
"""

from typing import Literal

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from ddpm.diffusion.forward import add_noise, scales
from ddpm.diffusion.schedule import NoiseSchedule

# eps: the noise (equation 14). x0: the image. v: sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0 (Salimans & Ho 2022).
# mean: mu_tilde of equation 7, the paper's baseline in table 2.
Prediction = Literal["eps", "x0", "v", "mean"]
Variance = Literal["fixed_large", "fixed_small", "learned"]


def target(
    prediction: Prediction,
    x0: Float[Tensor, "b c h w"],
    eps: Float[Tensor, "b c h w"],
    num_steps: Int[Tensor, "b"],
    schedule: NoiseSchedule,
) -> Float[Tensor, "b c h w"]:
    """The training target of the prediction.

    Args:
        prediction: What the network predicts.
        x0: Images in [-1, 1].
        eps: The noise, standard normal.
        num_steps: t of each image, from 1 to T.
        schedule: The noise schedule.
    """
    if prediction == "v":
        signal, noise = scales(num_steps, schedule, x0)
        return signal * eps - noise * x0
    if prediction == "mean":
        return posterior_mean(x0, add_noise(x0, eps, num_steps, schedule), num_steps, schedule)
    return eps if prediction == "eps" else x0


def to_x0(
    prediction: Prediction,
    predicted: Float[Tensor, "b c h w"],
    xt: Float[Tensor, "b c h w"],
    num_steps: Int[Tensor, "b"],
    schedule: NoiseSchedule,
) -> Float[Tensor, "b c h w"]:
    """The estimate of x_0 that follows from a prediction (equation 15 for eps).

    Args:
        prediction: What the network predicts.
        predicted: Its output for `xt`.
        xt: x_t.
        num_steps: t of each image, from 1 to T.
        schedule: The noise schedule.

    Returns:
        Estimates, not clamped. For "eps" they are not finite where alpha_bar_t is 0 (zero terminal SNR).
    """
    signal, noise = scales(num_steps, schedule, xt)
    if prediction == "v":
        return signal * xt - noise * predicted
    if prediction == "mean":
        x0_weight, xt_weight = _posterior_weights(num_steps, schedule, xt)
        return (predicted - xt_weight * xt) / x0_weight
    return (xt - noise * predicted) / signal if prediction == "eps" else predicted


def to_eps(
    prediction: Prediction,
    predicted: Float[Tensor, "b c h w"],
    xt: Float[Tensor, "b c h w"],
    num_steps: Int[Tensor, "b"],
    schedule: NoiseSchedule,
) -> Float[Tensor, "b c h w"]:
    """The estimate of the noise that follows from a prediction, with the arguments of `to_x0`."""
    signal, noise = scales(num_steps, schedule, xt)
    if prediction == "v":
        return noise * xt + signal * predicted
    if prediction == "eps":
        return predicted
    return (xt - signal * to_x0(prediction, predicted, xt, num_steps, schedule)) / noise


def x0_error(
    prediction: Prediction, num_steps: Int[Tensor, "b"], schedule: NoiseSchedule
) -> Float64[Tensor, "b 1 1 1"]:
    """The squared error of the x_0 estimate, divided by that of the prediction.

    Args:
        prediction: What the network predicts.
        num_steps: t of each image, from 1 to T.
        schedule: The noise schedule.
    """
    alpha_bar = schedule.alpha_bar(num_steps).reshape(-1, 1, 1, 1)
    match prediction:
        case "eps":
            return (1 - alpha_bar) / alpha_bar
        case "v":
            return 1 - alpha_bar
        case "mean":
            return _posterior_weights(num_steps, schedule, alpha_bar)[0] ** -2
        case "x0":
            return torch.ones_like(alpha_bar)


def eps_error(
    prediction: Prediction, num_steps: Int[Tensor, "b"], schedule: NoiseSchedule
) -> Float64[Tensor, "b 1 1 1"]:
    """The squared error of the noise estimate, divided by that of the prediction, with the arguments of `x0_error`."""
    alpha_bar = schedule.alpha_bar(num_steps).reshape(-1, 1, 1, 1)
    return x0_error(prediction, num_steps, schedule) * alpha_bar / (1 - alpha_bar)


def posterior_mean(
    x0: Float[Tensor, "b c h w"], xt: Float[Tensor, "b c h w"], num_steps: Int[Tensor, "b"], schedule: NoiseSchedule
) -> Float[Tensor, "b c h w"]:
    """mu_tilde, the mean of q(x_{t-1} | x_t, x_0) (equation 7).

    Args:
        x0: Images in [-1, 1], or their estimates.
        xt: x_t.
        num_steps: t of each image, from 1 to T.
        schedule: The noise schedule.
    """
    x0_weight, xt_weight = _posterior_weights(num_steps, schedule, xt)
    return x0_weight * x0 + xt_weight * xt


def posterior_variance(num_steps: int | Int[Tensor, "b"], schedule: NoiseSchedule) -> Float64[Tensor, "b"]:
    """beta_tilde_t, the variance of q(x_{t-1} | x_t, x_0) (equation 7), which is 0 at t = 1.

    Args:
        num_steps: t, from 1 to T.
        schedule: The noise schedule.
    """
    ratio = (1 - schedule.alpha_bar(num_steps - 1)) / (1 - schedule.alpha_bar(num_steps))
    return ratio * schedule.beta(num_steps)


def reverse_variance(
    variance: Variance,
    num_steps: Int[Tensor, "b"],
    schedule: NoiseSchedule,
    v: Float[Tensor, "b c h w"] | None = None,
) -> Float64[Tensor, "b #c #h #w"]:
    """sigma_t^2, the variance of p(x_{t-1} | x_t) (section 3.2).

    At t = 1, where beta_tilde_1 is 0, beta_tilde_2 is used instead, even for "fixed_large", as in the code of both
    papers.

    Args:
        variance: "fixed_large" is beta_t, "fixed_small" is beta_tilde_t, "learned" interpolates between them by `v`.
        num_steps: t of each image, from 1 to T.
        schedule: A noise schedule of at least 2 steps.
        v: The network's output for "learned": the variance is exp(v log beta_t + (1 - v) log beta_tilde_t)
            (Nichol & Dhariwal 2021, equation 15).

    Raises:
        ValueError: The variance is learned, and v is None.
        IndexError: The schedule has 1 step.
    """
    large = schedule.beta(num_steps).reshape(-1, 1, 1, 1)
    small = posterior_variance(num_steps.clamp(min=2), schedule).reshape(-1, 1, 1, 1)
    if variance == "fixed_small":
        return small
    if variance == "fixed_large":
        return torch.where(num_steps.reshape(-1, 1, 1, 1) == 1, small, large)
    if v is None:
        raise ValueError(
            "variance is learned, but this network was not trained to predict it; use fixed_large or fixed_small"
        )
    return torch.lerp(small.log(), large.log(), v.double()).exp()


def _posterior_weights(
    num_steps: Int[Tensor, "b"], schedule: NoiseSchedule, like: Tensor
) -> tuple[Float[Tensor, "b 1 1 1"], Float[Tensor, "b 1 1 1"]]:
    """The coefficients of x_0 and x_t in equation 7, with the dtype of `like`."""
    beta, alpha, alpha_bar = schedule.beta(num_steps), schedule.alpha(num_steps), schedule.alpha_bar(num_steps)
    before = schedule.alpha_bar(num_steps - 1)
    x0_weight = (before.sqrt() * beta / (1 - alpha_bar)).reshape(-1, 1, 1, 1).to(like)
    xt_weight = (alpha.sqrt() * (1 - before) / (1 - alpha_bar)).reshape(-1, 1, 1, 1).to(like)
    return x0_weight, xt_weight
