"""The reverse process, from any timestep on (Ho et al. 2020, Algorithm 2 and sections 4.3 and 4.4)."""

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
    """Yield x_T and the result of each step of `sampler`: n + 1 batches.

    Image i takes its noise from stream i only, so it does not depend on the rest of the batch.

    Args:
        model: A network with a noise_schedule, and with its conditioning bound (`ddpm.conditioning.guidance.given`).
        streams: One random generator per image.
        timesteps: The timesteps of the chain, as returned by `spacing.timesteps`, or None for all of 0..T.
        sampler: The name of a file in `samplers/`.
        options: An instance of the sampler's `Options`, or None for its defaults.
        clip_sample: How each x_0 estimate is clipped, as in `clipped`.
        compute: Device and precision.
        start: x_t at the last of `timesteps` to start from, or None for pure noise.

    Raises:
        ValueError: clip_sample is not allowed, the model has no noise_schedule, or it has not learned the variance.
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
    """Algorithm 2 with a trained network, on a subset of the timesteps. Images are in [-1, 1].

    An index counts the timesteps of the chain: 0 is x_0, the last one x_T.

    Attributes:
        model: A network with a noise_schedule, and with its conditioning bound.
        timesteps: The timesteps of the chain, as returned by `spacing.timesteps`.
        variance: sigma_t^2, as in `reverse_variance`.
        clip_sample: How each x_0 estimate is clipped, as in `clipped`.
        compute: Device and precision.
    """

    model: DiffusionModel
    timesteps: Int[Tensor, "n_plus_1"]
    variance: Variance = "fixed_large"
    clip_sample: bool | float = False
    compute: Compute = field(default_factory=Compute)

    def given(
        self, cond: Shaped[Tensor, "n *rest"] | None, chosen: slice | Shaped[Tensor, "b"] = slice(None)
    ) -> "Chain":
        """The same chain with the conditioning `cond[chosen]` bound, or unchanged for an unconditional network."""
        return replace(self, model=given(self.model, cond, chosen))

    def index(self, depth: float) -> int:
        """The index nearest to `depth`, a fraction of the chain from 0 (x_0) to 1 (x_T)."""
        return round(depth * (len(self.timesteps) - 1))

    def walk(self, streams: Sequence[torch.Generator]) -> Iterator[Float[Tensor, "n c h w"]]:
        """Yield x_T, ..., x_0, with one image per random generator."""
        return self._steps(None, len(self.timesteps) - 1, streams)

    def decode(
        self, xt: Float[Tensor, "n c h w"], index: int, streams: Sequence[torch.Generator]
    ) -> Float[Tensor, "n c h w"]:
        """Sample x_0 ~ p(x_0 | x_t), with `xt` at `index`. Image i takes its noise from stream i only."""
        return deque(self._steps(xt, index, streams), maxlen=1).pop()

    def estimate(self, xt: Float[Tensor, "n c h w"], index: int) -> Float[Tensor, "n c h w"]:
        """The estimate of x_0 (equation 15) from `xt` at `index`, at least 1."""
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
        """Decode (1 - lambda) x_t + lambda x'_t, where both images are noised to `index` (section 4.4).

        Args:
            x0: One image.
            other: The other image.
            lambdas: Weights of the other image, from 0 to 1.
            index: Where to interpolate.
            noise: The noise of both images: a mixture of two noises would have less variance than the network expects.
            streams: One random generator per lambda. With equal generators, only lambda differs.
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
    """One standard normal image per stream, drawn on the CPU: the same noise on any device."""
    if not streams:
        return torch.empty(0, *shape, device=device)
    return torch.stack([torch.randn(shape, generator=stream) for stream in streams]).to(device)
