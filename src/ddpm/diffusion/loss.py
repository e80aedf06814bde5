"""What Algorithm 1 descends on: equation 14, or the same error in other weights, down to those of the bound itself."""

from math import log
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float, Float64, Int
from torch import Tensor

from ddpm.diffusion.bound import bound_term
from ddpm.diffusion.posterior import Prediction, reverse_variance, target, to_x0, x0_error
from ddpm.diffusion.schedule import NoiseSchedule

Weighting = Literal["simple", "x0", "bound", "min_snr"]
GAMMA = 5.0  # of min_snr: Hang et al. 2023, section 3.4
SHARE_OF_BOUND = 0.001  # lambda of equation 16, Nichol & Dhariwal 2021


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
    """The loss of each image of a batch; predicted, v: what `DiffusionModel.with_variance` says of `xt`.

    weighting: "simple", the mean squared error of what is predicted (equation 14 for eps); "x0", that of the image it
    stands for, whatever is predicted ("SNR weighting" of eps in Salimans & Ho 2022); "min_snr", the same times min(SNR,
    GAMMA) (Hang et al. 2023); "bound", equation 12: the variational bound itself but for L_T, which nothing can change,
    with the variance that the network says, or beta_tilde ("fixed_small").
    Of a network that says a variance, all but "bound" train the prediction alone. To train the variance, SHARE_OF_BOUND
    of the bound is added, with the prediction held fixed (L_hybrid, equation 16).
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
    """What to multiply a prediction's squared error with, for its image's to count once, or min(SNR, GAMMA) times."""
    of_image = x0_error(prediction, num_steps, schedule)
    if weighting == "x0":
        return of_image
    alpha_bar = schedule.alpha_bar(num_steps).reshape(-1, 1, 1, 1)
    return (alpha_bar / (1 - alpha_bar)).clamp(max=GAMMA) * of_image


def _bound(
    prediction: Prediction,
    predicted: Float[Tensor, "b c h w"],
    v: Float[Tensor, "b c h w"] | None,
    x0: Float[Tensor, "b c h w"],
    xt: Float[Tensor, "b c h w"],
    num_steps: Int[Tensor, "b"],
    schedule: NoiseSchedule,
) -> Float64[Tensor, "b"]:
    """Estimates of L_0 + ... + L_{T-1} in bits/dim, one an image: T times the term that it has drawn."""
    estimate = to_x0(prediction, predicted.double(), xt.double(), num_steps, schedule)
    sigma2 = reverse_variance("fixed_small" if v is None else "learned", num_steps, schedule, v)
    return len(schedule) / log(2) * bound_term(x0, estimate, xt, num_steps, schedule, sigma2).mean(dim=(1, 2, 3))
