"""Consistency tuning: the estimate of x_0 learns to be the end of the path that deterministic sampling takes from x_t.

One network evaluation then makes an image (Song et al. 2023), two make a better one. Of each pair x_t and x_r with the
same noise, r < t, the estimate at t is drawn to that at r. At first r is half of t, and it comes closer stage by stage,
so that a network that was trained to denoise is tuned within an epoch (ECT, Geng et al. 2024, section 4).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ddpm.diffusion.forward import add_noise
from ddpm.diffusion.posterior import Prediction, to_x0
from ddpm.diffusion.schedule import NoiseSchedule

STAGES = 6  # t - r is half of t in the first part of the training, a quarter in the second, and so on
HUBER = 0.03  # from about this root mean square error on, the loss grows linearly (Song & Dhariwal 2023, section 3.3)


def earlier_steps(num_steps: Int[Tensor, "b"], progress: float) -> Int[Tensor, "b"]:
    """r of each t, from 0 to t - 1.

    Args:
        num_steps: t, from 1 to T.
        progress: The share of the training that has been done, from 0 to below 1.
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
    """The loss of each image: the pseudo-Huber distance of the estimates of x_0 at t and at r, times T / (t - r).

    Without that weight all samples become alike. No gradient goes through the estimate at r. It is clipped to the range
    of images; where r is 0, it is x_0 itself.

    Args:
        predict: The network, called with x_t and t.
        prediction: What it predicts.
        x0: Images in [-1, 1].
        eps: The noise, standard normal.
        xt: x_t.
        num_steps: t of each image, from 1 to T.
        schedule: The noise schedule.
        progress: The share of the training that has been done, from 0 to below 1.
    """
    found = to_x0(prediction, predict(xt, num_steps).float(), xt, num_steps, schedule)
    earlier = earlier_steps(num_steps, progress)
    taken = earlier.clamp(min=1)  # no network takes t = 0
    with torch.no_grad():
        xr = add_noise(x0, eps, taken, schedule)
        wanted = to_x0(prediction, predict(xr, taken).float(), xr, taken, schedule).clamp(-1, 1)
        wanted = torch.where(earlier.reshape(-1, 1, 1, 1) == 0, x0, wanted)
    distance = ((found - wanted).square().mean(dim=(1, 2, 3)) + HUBER**2).sqrt() - HUBER
    return distance * len(schedule) / (num_steps - earlier)
