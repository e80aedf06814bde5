"""A network seen as samplers see it: a function that estimates the image under the noise."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ddpm.run.compute import Compute
from ddpm.diffusion.posterior import to_x0
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.networks.model import DiffusionModel, evaluation_mode

# (x_t, t) -> the estimate of x_0, with t the number of a step of the schedule that the sampler walks.
Denoiser: TypeAlias = Callable[[Float[Tensor, "n c h w"], int], Float[Tensor, "n c h w"]]
# The same, and v of `reverse_variance`, or None of a network that learns no variance.
VarianceDenoiser: TypeAlias = Callable[
    [Float[Tensor, "n c h w"], int], tuple[Float[Tensor, "n c h w"], Float[Tensor, "n c h w"] | None]
]


def denoiser(
    model: DiffusionModel,
    schedule: NoiseSchedule,
    kept: Int[Tensor, "stops"],
    compute: Compute = Compute(),
    clip_sample: bool = False,
) -> Denoiser:
    """`variance_denoiser`'s x0 alone, which is all that most samplers ask for."""
    both = variance_denoiser(model, schedule, kept, compute, clip_sample)
    return lambda x, i: both(x, i)[0]


def variance_denoiser(
    model: DiffusionModel,
    schedule: NoiseSchedule,
    kept: Int[Tensor, "stops"],
    compute: Compute = Compute(),
    clip_sample: bool = False,
) -> VarianceDenoiser:
    """`model` as a function from (x, i) to (x0, v), where step i is step `kept[i]` of its own `schedule`.

    clip_sample: hold each estimate to [-1, 1], where the data lie, as the paper's own code does. It runs without
    gradients and in evaluation mode, and puts the model's mode back after every call.
    """
    numbers = kept.tolist()

    def denoise(
        x: Float[Tensor, "n c h w"], i: int
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n c h w"] | None]:
        num_steps = torch.full((len(x),), numbers[i], device=x.device)
        with torch.no_grad(), evaluation_mode(model), compute.autocast():
            predicted, v = model.with_variance(x, num_steps)
        x0 = to_x0(model.prediction, predicted.to(x.dtype), x, num_steps, schedule)
        return x0.clamp(-1, 1) if clip_sample else x0, v

    return denoise
