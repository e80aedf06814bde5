"""The interface between networks and samplers: a function that estimates x_0 from x_t."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ddpm.diffusion.model import DiffusionModel, evaluation_mode, schedule_of
from ddpm.diffusion.posterior import to_x0
from ddpm.run.compute import Compute
from ddpm.sampling.clipping import check_clip_sample, clipped

# (x_t, t) -> the estimate of x_0, where t is a step of the sampler's (possibly shorter) schedule.
Denoiser: TypeAlias = Callable[[Float[Tensor, "n c h w"], int], Float[Tensor, "n c h w"]]


class NetworkDenoiser:
    """A trained network as a `Denoiser`. It runs without gradients and in evaluation mode.

    Args:
        model: A network with a noise_schedule, and with its conditioning bound.
        timesteps: Step i of the chain is timestep `timesteps[i]` of the network's own schedule.
        clip_sample: How each estimate is clipped, as in `clipped`. The paper's code clips to [-1, 1].
        compute: Device and precision.

    Raises:
        ValueError: clip_sample is not allowed.
    """

    def __init__(
        self,
        model: DiffusionModel,
        timesteps: Int[Tensor, "n_plus_1"],
        clip_sample: bool | float = False,
        compute: Compute = Compute(),
    ) -> None:
        self.model, self.schedule, self.timesteps = model, schedule_of(model), timesteps.tolist()
        self.clip_sample, self.compute = check_clip_sample(clip_sample), compute

    def __call__(self, x: Float[Tensor, "n c h w"], i: int) -> Float[Tensor, "n c h w"]:
        return self.with_variance(x, i)[0]

    def with_variance(
        self, x: Float[Tensor, "n c h w"], i: int
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n c h w"] | None]:
        """The estimate of x_0, and v for `reverse_variance`, or None if the variance is not learned."""
        num_steps = torch.full((len(x),), self.timesteps[i], device=x.device)
        with torch.no_grad(), evaluation_mode(self.model), self.compute.autocast():
            predicted, v = self.model.with_variance(x, num_steps)
        x0 = to_x0(self.model.prediction, predicted.to(x.dtype), x, num_steps, self.schedule)
        return clipped(x0, self.clip_sample), v
