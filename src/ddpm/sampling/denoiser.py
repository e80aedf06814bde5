"""A network seen as samplers see it: a function that estimates the image under the noise."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ddpm.compute import Compute
from ddpm.diffusion.posterior import to_x0
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.models.base import DiffusionModel, evaluation_mode

# (x_t, t) -> the estimate of x_0, with t the number of a step of the schedule that the sampler walks.
Denoiser: TypeAlias = Callable[[Float[Tensor, "n c h w"], int], Float[Tensor, "n c h w"]]


def denoiser(
    model: DiffusionModel,
    schedule: NoiseSchedule,
    kept: Int[Tensor, "stops"],
    compute: Compute = Compute(),
    clip_sample: bool = False,
) -> Denoiser:
    """`model` as a function from (x, i) to x0, where step i is step `kept[i]` of `schedule`, which it was trained on.

    clip_sample: hold each estimate to [-1, 1], where the data lie, as the paper's own code does. It runs without
    gradients and in evaluation mode, and puts the model's mode back after every call.
    """
    numbers = kept.tolist()

    def denoise(x: Float[Tensor, "n c h w"], i: int) -> Float[Tensor, "n c h w"]:
        num_steps = torch.full((len(x),), numbers[i], device=x.device)
        with torch.no_grad(), evaluation_mode(model), compute.autocast():
            predicted = model(x, num_steps).to(x.dtype)
        x0 = to_x0(model.prediction, predicted, x, num_steps, schedule)
        return x0.clamp(-1, 1) if clip_sample else x0

    return denoise
