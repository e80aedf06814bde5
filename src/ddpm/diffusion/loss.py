"""The training loss: equation 14, the same error with a different weighting, or the variational bound."""

from math import log
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float, Float64, Int
from torch import Tensor

from ddpm.diffusion.bound import bound_term
from ddpm.diffusion.posterior import Prediction, reverse_variance, target, to_x0, x0_error
from ddpm.diffusion.schedule import NoiseSchedule

Weighting = Literal["simple", "x0", "bound", "min_snr"]
GAMMA = 5.0  # of min_snr (Hang et al. 2023, section 3.4)
SHARE_OF_BOUND = 0.001  # lambda of L_hybrid (Nichol & Dhariwal 2021, equation 16)


def training_loss(
    weighting: Weighting,
    prediction: Prediction,
    predicted: Float[Tensor, "b c h w"],
    v: Float[Tensor, "b c h w"] | None,
    x0: Float[Tensor, "b c h w"],
    eps: Float[Tensor, "b c h w"],
    xt: Float[Tensor, "b c h w"],
    num_steps: Int[Tensor, "b"],
    schedule: NoiseSchedule,
) -> Float[Tensor, "b"]:
    """The loss of each image of a batch.

    Args:
        weighting: "simple" is the mean squared error of the prediction (equation 14 for eps).
            "x0" is the mean squared error of the x_0 estimate, which is the error of eps divided by the SNR.
            "min_snr" is the error of "x0" times min(SNR, GAMMA) (Hang et al. 2023).
            "bound" is the variational bound (equation 12) in bits/dim, without L_T, which has no parameters. Its
            variance is the learned one if there is one, else beta_tilde.
        prediction: What the network predicts.
        predicted: Its output for `xt`.
        v: Its output for the variance, as in `reverse_variance`, or None if the variance is not learned. With v, and
            unless the weighting is "bound", the loss is L_hybrid (Nichol & Dhariwal 2021, equation 16): the bound times
            SHARE_OF_BOUND is added, and its gradient reaches only v.
        x0: Images in [-1, 1], with 8-bit levels for the bound.
        eps: The noise, standard normal.
        xt: x_t.
        num_steps: t of each image, from 1 to T.
        schedule: The noise schedule, with at least 2 steps for the bound.
    """
    if weighting == "bound":
        return _bound(prediction, predicted, v, x0, xt, num_steps, schedule)
    wanted = target(prediction, x0, eps, num_steps, schedule)
    loss = F.mse_loss(predicted.float(), wanted, reduction="none")
    if weighting != "simple":
        loss = loss * weight(weighting, prediction, num_steps, schedule).to(loss)
    loss = loss.mean(dim=(1, 2, 3))
    if v is None:
        return loss
    return loss + SHARE_OF_BOUND * _bound(prediction, predicted.detach(), v, x0, xt, num_steps, schedule)


def weight(
    weighting: Literal["x0", "min_snr"], prediction: Prediction, num_steps: Int[Tensor, "b"], schedule: NoiseSchedule
) -> Float64[Tensor, "b 1 1 1"]:
    """The weight of the prediction's squared error at t.

    Args:
        weighting: "x0" gives the squared error of the x_0 estimate, and "min_snr" this error times min(SNR, GAMMA).
        prediction: What the network predicts.
        num_steps: t of each image, from 1 to T.
        schedule: The noise schedule.
    """
    of_x0 = x0_error(prediction, num_steps, schedule)
    if weighting == "x0":
        return of_x0
    alpha_bar = schedule.alpha_bar(num_steps).reshape(-1, 1, 1, 1)
    return (alpha_bar / (1 - alpha_bar)).clamp(max=GAMMA) * of_x0


def _bound(
    prediction: Prediction,
    predicted: Float[Tensor, "b c h w"],
    v: Float[Tensor, "b c h w"] | None,
    x0: Float[Tensor, "b c h w"],
    xt: Float[Tensor, "b c h w"],
    num_steps: Int[Tensor, "b"],
    schedule: NoiseSchedule,
) -> Float64[Tensor, "b"]:
    """An unbiased estimate of L_0 + ... + L_{T-1} for each image, in bits/dim: T times the term at t."""
    estimate = to_x0(prediction, predicted.double(), xt.double(), num_steps, schedule)
    sigma2 = reverse_variance("fixed_small" if v is None else "learned", num_steps, schedule, v)
    return len(schedule) / log(2) * bound_term(x0, estimate, xt, num_steps, schedule, sigma2).mean(dim=(1, 2, 3))
