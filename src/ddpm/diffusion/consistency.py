"""Consistency tuning: the x_0 estimate is trained to be the end of the probability-flow trajectory through x_t.

A single network evaluation then generates an image (Song et al. 2023), and two generate a better one. For each pair x_t
and x_r with the same noise and r < t, the estimate at t is pulled towards the estimate at r. r starts at t / 2 and
approaches t in stages, which tunes a trained denoiser within an epoch (ECT, Geng et al. 2024, section 4).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ddpm.diffusion.forward import add_noise
from ddpm.diffusion.posterior import Prediction, to_x0
from ddpm.diffusion.schedule import NoiseSchedule

STAGES = 6  # of equal length: t - r is t / 2 in the first, t / 4 in the second, and so on
HUBER = 0.03  # c of the pseudo-Huber loss, the RMSE above which it is about linear (Song & Dhariwal 2023, 3.3)


def earlier_steps(num_steps: Int[Tensor, "b"], progress: float) -> Int[Tensor, "b"]:
    """The earlier timestep r of each t, from 0 to t - 1.

    Args:
        num_steps: t, from 1 to T.
        progress: The fraction of training that is done, in [0, 1).
    """
    gap = num_steps.double() / 2 ** (1 + int(STAGES * progress))
    return num_steps - gap.ceil().clamp(min=1).to(num_steps)


def consistency_loss(
    predict: Callable[[Float[Tensor, "b c h w"], Int[Tensor, "b"]], Float[Tensor, "b c h w"]],
    prediction: Prediction,
    x0: Float[Tensor, "b c h w"],
    eps: Float[Tensor, "b c h w"],
    xt: Float[Tensor, "b c h w"],
    num_steps: Int[Tensor, "b"],
    schedule: NoiseSchedule,
    progress: float,
) -> Float[Tensor, "b"]:
    """The loss of each image: the pseudo-Huber distance between the x_0 estimates at t and at r, times T / (t - r).

    Without this weight the samples collapse. The target is the estimate at r, clipped to [-1, 1] and without gradient.
    Where r is 0, the target is x_0 itself.

    Args:
        predict: The network, called with x_t and t.
        prediction: What it predicts.
        x0: Images in [-1, 1].
        eps: The noise, standard normal.
        xt: x_t.
        num_steps: t of each image, from 1 to T.
        schedule: The noise schedule.
        progress: The fraction of training that is done, in [0, 1).
    """
    with torch.random.fork_rng():  # both evaluations use the same dropout masks
        predicted = predict(xt, num_steps)
    found = to_x0(prediction, predicted.float(), xt, num_steps, schedule)
    earlier = earlier_steps(num_steps, progress)
    taken = earlier.clamp(min=1)  # networks are not trained at t = 0
    with torch.no_grad():
        xr = add_noise(x0, eps, taken, schedule)
        wanted = to_x0(prediction, predict(xr, taken).float(), xr, taken, schedule).clamp(-1, 1)
        wanted = torch.where(earlier.reshape(-1, 1, 1, 1) == 0, x0, wanted)
    distance = ((found - wanted).square().mean(dim=(1, 2, 3)) + HUBER**2).sqrt() - HUBER
    return distance * len(schedule) / (num_steps - earlier)
