"""What a network predicts about a noised image, and the step back that follows (Ho et al. 2020, section 3.2).

One prediction gives all the others, because x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps (equation 4).
"""

from typing import Literal

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from ddpm.diffusion.forward import add_noise, scales
from ddpm.diffusion.schedule import NoiseSchedule

# eps: the noise (equation 14); x0: the image; v: sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0 (Salimans & Ho 2022);
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
    """What a network that predicts `prediction` should say of the image `x0` under the noise `eps`."""
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
    """The image that a prediction about `xt` stands for (equation 15 for eps). Not clamped.

    Where alpha_bar is 0 (zero terminal SNR), eps stands for none, and the result is not finite.
    """
    signal, noise = scales(num_steps, schedule, xt)
    if prediction == "v":
        return signal * xt - noise * predicted
    if prediction == "mean":
        of_x0, of_xt = _posterior_weights(num_steps, schedule, xt)
        return (predicted - of_xt * xt) / of_x0
    return (xt - noise * predicted) / signal if prediction == "eps" else predicted


def to_eps(
    prediction: Prediction,
    predicted: Float[Tensor, "b c h w"],
    xt: Float[Tensor, "b c h w"],
    num_steps: Int[Tensor, "b"],
    schedule: NoiseSchedule,
) -> Float[Tensor, "b c h w"]:
    """The noise that a prediction about `xt` stands for; num_steps from 1, since x_0 has none."""
    signal, noise = scales(num_steps, schedule, xt)
    if prediction == "v":
        return noise * xt + signal * predicted
    if prediction == "eps":
        return predicted
    return (xt - signal * to_x0(prediction, predicted, xt, num_steps, schedule)) / noise


def x0_error(
    prediction: Prediction, num_steps: Int[Tensor, "b"], schedule: NoiseSchedule
) -> Float64[Tensor, "b 1 1 1"]:
    """The squared error of the image that `to_x0` gives, for a squared error of 1 in what is predicted."""
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
    """The squared error of the noise that `to_eps` gives, for a squared error of 1 in what is predicted."""
    alpha_bar = schedule.alpha_bar(num_steps).reshape(-1, 1, 1, 1)
    return x0_error(prediction, num_steps, schedule) * alpha_bar / (1 - alpha_bar)


def posterior_mean(
    x0: Float[Tensor, "b c h w"], xt: Float[Tensor, "b c h w"], num_steps: Int[Tensor, "b"], schedule: NoiseSchedule
) -> Float[Tensor, "b c h w"]:
    """mu_tilde of equation 7: the mean of q(x_{t-1} | x_t, x_0)."""
    of_x0, of_xt = _posterior_weights(num_steps, schedule, xt)
    return of_x0 * x0 + of_xt * xt


def posterior_variance(num_steps: int | Int[Tensor, "b"], schedule: NoiseSchedule) -> Float64[Tensor, "b"]:
    """beta_tilde of equation 7: the variance of q(x_{t-1} | x_t, x_0); 0 at t = 1."""
    ratio = (1 - schedule.alpha_bar(num_steps - 1)) / (1 - schedule.alpha_bar(num_steps))
    return ratio * schedule.beta(num_steps)


def reverse_variance(
    variance: Variance,
    num_steps: Int[Tensor, "b"],
    schedule: NoiseSchedule,
    v: Float[Tensor, "b c h w"] | None = None,
) -> Float64[Tensor, "b #c #h #w"]:
    """sigma_t^2 of p(x_{t-1} | x_t): beta_t ("fixed_large"), beta_tilde_t ("fixed_small", section 3.2) or "learned".

    v: what the network says for "learned", between the two: 0 stands for beta_tilde_t, 1 for beta_t (Nichol & Dhariwal
    2021, equation 15). ValueError where it says nothing. beta_tilde_1 is 0, so at t = 1 beta_tilde_2 stands in for it,
    and for the fixed beta_1 as well, as in both papers' own code; IndexError for that on a schedule of 1 step.
    """
    large = schedule.beta(num_steps).reshape(-1, 1, 1, 1)
    small = posterior_variance(num_steps.clamp(min=2), schedule).reshape(-1, 1, 1, 1)
    if variance == "fixed_small":
        return small
    if variance == "fixed_large":
        return torch.where(num_steps.reshape(-1, 1, 1, 1) == 1, small, large)
    if v is None:
        raise ValueError("variance is learned, but this network has learned none; take fixed_large or fixed_small")
    return torch.lerp(small.log(), large.log(), v.double()).exp()


def _posterior_weights(
    num_steps: Int[Tensor, "b"], schedule: NoiseSchedule, like: Tensor
) -> tuple[Float[Tensor, "b 1 1 1"], Float[Tensor, "b 1 1 1"]]:
    """What x_0 and x_t are multiplied with in equation 7, in the type of `like`."""
    beta, alpha, alpha_bar = schedule.beta(num_steps), schedule.alpha(num_steps), schedule.alpha_bar(num_steps)
    before = schedule.alpha_bar(num_steps - 1)
    of_x0 = (before.sqrt() * beta / (1 - alpha_bar)).reshape(-1, 1, 1, 1).to(like)
    of_xt = (alpha.sqrt() * (1 - before) / (1 - alpha_bar)).reshape(-1, 1, 1, 1).to(like)
    return of_x0, of_xt
