"""The reverse process, entered and left at any timestep (Ho et al. 2020, Algorithm 2 and sections 4.3 and 4.4)."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from ddpm.conditioning.guidance import given
from ddpm.diffusion.forward import add_noise
from ddpm.diffusion.model import DiffusionModel, schedule_of
from ddpm.diffusion.posterior import Variance
from ddpm.run.compute import Compute
from ddpm.run.params import Section
from ddpm.sampling import spacing
from ddpm.sampling.denoiser import NetworkDenoiser
from ddpm.sampling.sampler import SAMPLERS
from ddpm.sampling.samplers.ancestral import AncestralOptions


def sample_steps(
    model: DiffusionModel,
    streams: Sequence[torch.Generator],
    timesteps: Int[Tensor, "n_plus_1"] | None = None,
    sampler: str = "ancestral",
    options: Section | None = None,
    clip_sample: bool | float = False,
    compute: Compute = Compute(),
    start: Float[Tensor, "n c h w"] | None = None,
) -> Iterator[Float[Tensor, "n c h w"]]:
    """Yield x_T and what each step of `sampler` leaves of it: n + 1 batches.

    Image i takes its noise from stream i alone, so that it does not depend on the images beside it.

    Args:
        model: A network with its noise_schedule, its conditioning filled in (`ddpm.conditioning.guidance.given`).
        streams: One noise stream an image.
        timesteps: Those of the chain, as `spacing.timesteps` gives them; None for all of 0..T.
        sampler: A file in `samplers/`.
        options: An instance of the sampler's `Options`; None for its defaults.
        clip_sample: How each x_0 estimate is clipped, as in `clipped`.
        compute: The device and its precision.
        start: x_t at the last of `timesteps`, to go on from; None for pure noise.

    Raises:
        ValueError: clip_sample is not allowed, or the model has no noise_schedule, or has not learned the variance that
            is asked for.
    """
    schedule, chosen = schedule_of(model), SAMPLERS[sampler]
    timesteps = spacing.timesteps(schedule) if timesteps is None else timesteps
    noise = partial(_randn, model.img_shape, streams, compute.device)
    x = noise() if start is None else start.to(compute.device)
    denoise = NetworkDenoiser(model, timesteps, clip_sample, compute)
    yield x
    yield from chosen.walk(denoise, x, spacing.respace(schedule, timesteps), noise, options or chosen.Options())


@dataclass(frozen=True)
class Chain:
    """Algorithm 2 with a trained network, on some timesteps. Index 0 is x_0, the last one x_T; images are in [-1, 1].

    Attributes:
        model: A network with its noise_schedule, its conditioning filled in.
        timesteps: Those of the chain, as `spacing.timesteps` gives them.
        variance: sigma_t^2, as in `reverse_variance`.
        clip_sample: How each x_0 estimate is clipped, as in `clipped`.
        compute: The device and its precision.
    """

    model: DiffusionModel
    timesteps: Int[Tensor, "n_plus_1"]
    variance: Variance = "fixed_large"
    clip_sample: bool | float = False
    compute: Compute = field(default_factory=Compute)

    def given(
        self, cond: Shaped[Tensor, "n *rest"] | None, chosen: slice | Shaped[Tensor, "b"] = slice(None)
    ) -> "Chain":
        """The same chain for images with the conditioning `cond[chosen]`; unchanged for an unconditional network."""
        return replace(self, model=given(self.model, cond, chosen))

    def index(self, depth: float) -> int:
        """The index nearest to `depth`, from 0 (x_0) to 1 (x_T)."""
        return round(depth * (len(self.timesteps) - 1))

    def walk(self, streams: Sequence[torch.Generator]) -> Iterator[Float[Tensor, "n c h w"]]:
        """Yield x_T, ..., x_0: one image a noise stream."""
        return self._steps(None, len(self.timesteps) - 1, streams)

    def decode(
        self, xt: Float[Tensor, "n c h w"], index: int, streams: Sequence[torch.Generator]
    ) -> Float[Tensor, "n c h w"]:
        """x_0 ~ p(x_0 | x_t), with `xt` at `index`; image i takes its noise from stream i alone."""
        return deque(self._steps(xt, index, streams), maxlen=1).pop()

    def estimate(self, xt: Float[Tensor, "n c h w"], index: int) -> Float[Tensor, "n c h w"]:
        """Equation 15: the estimate of x_0 from `xt` at `index`, from 1."""
        return NetworkDenoiser(self.model, self.timesteps, self.clip_sample, self.compute)(xt, index)

    def noised(
        self, x0: Float[Tensor, "n c h w"], noise: Float[Tensor, "n c h w"], index: int
    ) -> Float[Tensor, "n c h w"]:
        """x_t at `index` from x_0 and standard normal noise (equation 4)."""
        x0, noise = x0.to(self.compute.device), noise.to(self.compute.device)
        num_steps = self.timesteps[index].to(x0.device).expand(len(x0))
        return add_noise(x0, noise, num_steps, schedule_of(self.model))

    def interpolate(
        self,
        x0: Float[Tensor, "c h w"],
        other: Float[Tensor, "c h w"],
        lambdas: Float[Tensor, "lambdas"],
        index: int,
        noise: Float[Tensor, "c h w"],
        streams: Sequence[torch.Generator],
    ) -> Float[Tensor, "lambdas c h w"]:
        """Section 4.4: decode (1 - lambda) x_t + lambda x'_t, both images being noised to `index`.

        Args:
            x0: One image.
            other: The other image.
            lambdas: Shares of the other image, from 0 to 1.
            index: Where they are mixed.
            noise: Of both images: a mixture of two noises would be weaker than what the network knows at this t.
            streams: One for each lambda; equal ones leave lambda as the only difference.
        """
        ends = self.noised(torch.stack((x0, other)), noise.expand(2, *noise.shape), index)
        mixtures = torch.stack([torch.lerp(ends[0], ends[1], weight) for weight in lambdas.tolist()])
        return self.decode(mixtures, index, streams)

    def _steps(
        self, xt: Float[Tensor, "n c h w"] | None, index: int, streams: Sequence[torch.Generator]
    ) -> Iterator[Float[Tensor, "n c h w"]]:
        options = AncestralOptions(variance=self.variance)
        below = self.timesteps[: index + 1]
        return sample_steps(self.model, streams, below, "ancestral", options, self.clip_sample, self.compute, start=xt)


def _randn(shape: tuple[int, ...], streams: Sequence[torch.Generator], device: torch.device) -> Tensor:
    """One standard normal image a stream, drawn on the CPU: the same noise whatever the device."""
    if not streams:
        return torch.empty(0, *shape, device=device)
    return torch.stack([torch.randn(shape, generator=stream) for stream in streams]).to(device)
