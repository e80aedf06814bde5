"""What a network predicts about a noised image, and the step back that follows (Ho et al. 2020, section 3.2).

One prediction gives all the others, because x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps (equation 4).
"""

from typing import Literal

from jaxtyping import Float, Float64, Int
from torch import Tensor

from ddpm.diffusion.forward import scales
from ddpm.diffusion.schedule import NoiseSchedule

# eps: the noise (equation 14); x0: the image; v: sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0 (Salimans & Ho 2022).
Prediction = Literal["eps", "x0", "v"]


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
    return predicted if prediction == "eps" else (xt - signal * predicted) / noise


def posterior_mean(
    x0: Float[Tensor, "b c h w"], xt: Float[Tensor, "b c h w"], num_steps: Int[Tensor, "b"], schedule: NoiseSchedule
) -> Float[Tensor, "b c h w"]:
    """mu_tilde of equation 7: the mean of q(x_{t-1} | x_t, x_0)."""
    beta, alpha, alpha_bar = schedule.beta(num_steps), schedule.alpha(num_steps), schedule.alpha_bar(num_steps)
    before = schedule.alpha_bar(num_steps - 1)
    of_x0 = (before.sqrt() * beta / (1 - alpha_bar)).reshape(-1, 1, 1, 1).to(xt)
    of_xt = (alpha.sqrt() * (1 - before) / (1 - alpha_bar)).reshape(-1, 1, 1, 1).to(xt)
    return of_x0 * x0 + of_xt * xt


def posterior_variance(num_steps: int | Int[Tensor, "b"], schedule: NoiseSchedule) -> Float64[Tensor, "b"]:
    """beta_tilde of equation 7: the variance of q(x_{t-1} | x_t, x_0); 0 at t = 1."""
    ratio = (1 - schedule.alpha_bar(num_steps - 1)) / (1 - schedule.alpha_bar(num_steps))
    return ratio * schedule.beta(num_steps)
