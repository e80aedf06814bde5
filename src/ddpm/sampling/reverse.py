"""The reverse process entered at any step: what sections 4.3 and 4.4 of the paper look at (Ho et al. 2020)."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ddpm.run.compute import Compute
from ddpm.diffusion.forward import add_noise
from ddpm.diffusion.posterior import Variance
from ddpm.networks.model import DiffusionModel
from ddpm.sampling.denoiser import denoiser
from ddpm.sampling.sample import sample_steps


@dataclass(frozen=True)
class ReverseProcess:
    """Algorithm 2 with a trained model, on the stops of its chain: stop 0 is x_0, the last one x_T.

    model: with its noise_schedule. kept: the noise steps t of the stops, as `respacing.timesteps` gives them.
    variance, clip_sample: as `sample_steps` has them. All images are on the scale of normalised ones, [-1, 1].
    """

    model: DiffusionModel
    kept: Int[Tensor, "stops"]
    variance: Variance = "fixed_large"
    clip_sample: bool = False
    compute: Compute = field(default_factory=Compute)

    def stop(self, depth: float) -> int:
        """The stop nearest to `depth` times the whole chain, with depth from 0 (x_0) to 1 (x_T)."""
        return round(depth * (len(self.kept) - 1))

    def walk(self, streams: Sequence[torch.Generator]) -> Iterator[Float[Tensor, "n c h w"]]:
        """Yield pure noise and what each step leaves of it, x_T to x_0: one image a noise stream."""
        return self._from(None, len(self.kept) - 1, streams)

    def decode(
        self, xt: Float[Tensor, "n c h w"], stop: int, streams: Sequence[torch.Generator]
    ) -> Float[Tensor, "n c h w"]:
        """x_0 ~ p(x_0 | x_t), where `xt` stands at `stop`; image i takes its noise from stream i alone."""
        return deque(self._from(xt, stop, streams), maxlen=1).pop()

    def estimate(self, xt: Float[Tensor, "n c h w"], stop: int) -> Float[Tensor, "n c h w"]:
        """Equation 15: the x_0 that the model sees in `xt`, which stands at `stop`, from 1."""
        assert self.model.noise_schedule is not None
        schedule = self.model.noise_schedule
        return denoiser(self.model, schedule, self.kept, self.compute, self.clip_sample)(xt, stop)

    def encode(
        self, x0: Float[Tensor, "n c h w"], noise: Float[Tensor, "n c h w"], stop: int
    ) -> Float[Tensor, "n c h w"]:
        """x_t at `stop`, from x_0 and given standard normal noise (equation 4)."""
        assert self.model.noise_schedule is not None
        x0, noise = x0.to(self.compute.device), noise.to(self.compute.device)
        return add_noise(x0, noise, self.kept[stop].to(x0.device).expand(len(x0)), self.model.noise_schedule)

    def interpolate(
        self,
        x0: Float[Tensor, "c h w"],
        other: Float[Tensor, "c h w"],
        lambdas: Float[Tensor, "lambdas"],
        stop: int,
        noise: Float[Tensor, "c h w"],
        streams: Sequence[torch.Generator],
    ) -> Float[Tensor, "lambdas c h w"]:
        """Section 4.4: decode (1 - lambda) x_t + lambda x'_t, where both images are encoded to `stop`.

        Both take the same `noise`, so that a mixture has just the noise that the model knows of this stop; a mixture
        of two would have less. streams: one for each lambda; equal ones leave lambda as the only difference.
        """
        ends = self.encode(torch.stack((x0, other)), noise.expand(2, *noise.shape), stop)
        mixtures = torch.stack([torch.lerp(ends[0], ends[1], weight) for weight in lambdas.tolist()])
        return self.decode(mixtures, stop, streams)

    def _from(
        self, xt: Float[Tensor, "n c h w"] | None, stop: int, streams: Sequence[torch.Generator]
    ) -> Iterator[Float[Tensor, "n c h w"]]:
        return sample_steps(
            self.model,
            streams,
            self.kept[: stop + 1],
            variance=self.variance,
            clip_sample=self.clip_sample,
            compute=self.compute,
            start=xt,
        )
