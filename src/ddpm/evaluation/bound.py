"""The variational bound on the code length of 8-bit images under a model (Ho et al. 2020, equation 5)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import log, prod

import torch
from jaxtyping import Float, Float64, Shaped, UInt8
from torch import Tensor
from tqdm import tqdm

from ddpm.conditioning.guidance import given
from ddpm.data.dataset import to_x0_range
from ddpm.diffusion.bound import HALF_BIN, bound_term, gaussian_kl
from ddpm.diffusion.forward import add_noise
from ddpm.diffusion.model import DiffusionModel, evaluation_mode, schedule_of
from ddpm.diffusion.posterior import Variance, reverse_variance, to_x0
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.run.compute import Compute
from ddpm.run.progress import hidden
from ddpm.run.seeding import generator

Rows = tuple[Float64[Tensor, "n"], ...]


def _in_turn(makes: Mapping[str, Callable[[], Rows]]) -> Iterator[Rows]:
    return (make() for make in makes.values())


@dataclass(frozen=True)
class Bound:
    """The terms of the bound for some images, NaN where an image was not evaluated at a timestep.

    Attributes:
        terms: L_0, L_1, ..., L_T of each image, in bits per pixel and channel ("bits/dim"). Their sum is the bound.
        squared_errors: Mean squared errors of the x_0 estimates from x_1, ..., x_T, in squared levels of 0..255.
        stride: Images whose indices differ by a multiple of it were evaluated at the same timesteps.
    """

    terms: Float64[Tensor, "T_plus_1 n"]
    squared_errors: Float64[Tensor, "T n"]
    stride: int

    @property
    def means(self) -> Float64[Tensor, "T_plus_1"]:
        """L_0, L_1, ..., L_T, each averaged over the images that were evaluated there."""
        return self.terms.nanmean(1)

    @property
    def parts(self) -> dict[str, float]:
        """L_0, the sum of L_1 to L_{T-1}, and L_T."""
        means = self.means
        return {"L_0": means[0].item(), "L_between": means[1:-1].sum().item(), "L_T": means[-1].item()}

    @property
    def bits_per_dim(self) -> float:
        """The bound, as the mean over the images."""
        return self.means.sum().item()

    @property
    def margin(self) -> float:
        """Half the width of its 95 % confidence interval, over images and noise.

        It is based on the standard error of stratified sampling: images with the same timesteps form a stratum, and
        only the variance within strata counts.
        """
        n = self.terms.shape[1]
        totals = (self.terms * (n / self.terms.isfinite().sum(1, keepdim=True))).nansum(0)
        groups = [totals[first :: self.stride] for first in range(self.stride)]
        return 1.96 * sum(len(group) * group.var().item() for group in groups) ** 0.5 / n

    def __str__(self) -> str:
        return f"{self.bits_per_dim:.3f} +- {self.margin:.3f} bits/dim"

    @property
    def rate(self) -> Float64[Tensor, "T_plus_1"]:
        """Bits/dim to transmit x_t for t = 0, ..., T, which are L_t + ... + L_T (Algorithms 3 and 4).

        At t = 0, this is the bound.
        """
        return self.means.flip(0).cumsum(0).flip(0)

    @property
    def distortion(self) -> Float64[Tensor, "T"]:
        """RMSE of the x_0 estimate from x_t, in levels of 0..255, for t = 1, ..., T."""
        return self.squared_errors.nanmean(1).sqrt()


@dataclass(frozen=True)
class VariationalBound:
    """Every term of equation 5 for several variances, with one noise sample per image and timestep.

    The terms of one timestep depend only on these attributes, so they can be computed in any order and cached.

    Attributes:
        model: A network with a noise_schedule of at least 2 steps.
        images: 8-bit images, at least 2 * stride.
        variances: As in `reverse_variance`.
        seed: Seed of the noise.
        compute: Device and precision.
        clip_sample: Clip each x_0 estimate to [-1, 1].
        batch_size: Images per batch.
        stride: If above 1, image i is evaluated only at t = 1 and where t - i is a multiple of it, at a fraction of
            the cost.
        cond: The conditioning of the images. The bound is then the code length given the conditioning.

    Raises:
        ValueError: The model has no such schedule, has not learned a requested variance, or there are too few images.
    """

    model: DiffusionModel
    images: UInt8[Tensor, "n c h w"]
    variances: Sequence[Variance]
    seed: int
    compute: Compute = field(default_factory=Compute)
    clip_sample: bool = False
    batch_size: int = 256
    stride: int = 1
    cond: Shaped[Tensor, "n *rest"] | None = None

    def __post_init__(self) -> None:
        if self.model.noise_schedule is None or len(self.model.noise_schedule) < 2:
            raise ValueError("the bound needs a model with a noise_schedule of at least 2 steps")
        if (n := len(self.images)) < 2 * self.stride:
            raise ValueError(f"{n} images are too few for stride {self.stride}; need at least {2 * self.stride}")

    @property
    def schedule(self) -> NoiseSchedule:
        """The model's noise schedule."""
        return schedule_of(self.model)

    @cached_property
    def x0(self) -> Float[Tensor, "n c h w"]:
        """The images in [-1, 1]."""
        return to_x0_range(self.images)

    def run(self, each: Callable[[Mapping[str, Callable[[], Rows]]], Iterable[Rows]] = _in_turn) -> dict[str, Bound]:
        """Compute the terms at every timestep.

        Args:
            each: Yields the results of a mapping's functions. A stage caches them and distributes the calls over
                processes.

        Returns:
            The bound by variance.
        """
        makes = {str(t): partial(self.at, t) for t in range(1, len(self.schedule) + 1)}
        found = tqdm(each(makes), "bound", len(makes), disable=hidden())
        errors, *terms = (torch.stack(rows) for rows in zip(*found, strict=True))
        last = self.last_term()[None]
        return {
            variance: Bound(torch.cat([rows, last]), errors, self.stride)
            for variance, rows in zip(self.variances, terms, strict=True)
        }

    def at(self, t: int) -> Rows:
        """The squared errors at t, and L_{t-1} with each variance, for all images. NaN where not evaluated."""
        rows = torch.full((1 + len(self.variances), len(self.x0)), torch.nan).double()
        chosen = torch.arange(len(self.x0)) if t == 1 else torch.arange(t % self.stride, len(self.x0), self.stride)
        noise = torch.randn((len(chosen), *self.x0.shape[1:]), generator=generator(self.seed, "bound", t))
        for part, eps in zip(chosen.split(self.batch_size), noise.split(self.batch_size), strict=True):
            x0, eps = self.x0[part].to(self.compute.device), eps.to(self.compute.device)
            num_steps = torch.full((len(x0),), t, device=self.compute.device)
            xt = add_noise(x0, eps, num_steps, self.schedule)
            with torch.no_grad(), evaluation_mode(self.model), self.compute.autocast():
                predicted, v = given(self.model, self.cond, part).with_variance(xt, num_steps)
            estimate = to_x0(self.model.prediction, predicted.double(), xt.double(), num_steps, self.schedule)
            estimate = estimate.clamp(-1, 1) if self.clip_sample else estimate
            rows[0, part] = ((estimate - x0) / (2 * HALF_BIN)).square().mean((1, 2, 3)).cpu()
            for row, variance in zip(rows[1:], self.variances, strict=True):
                sigma2 = reverse_variance(variance, num_steps, self.schedule, v)
                row[part] = _bits_per_dim(bound_term(x0, estimate, xt, num_steps, self.schedule, sigma2))
        return tuple(rows)

    def last_term(self) -> Float64[Tensor, "n"]:
        """L_T of each image, which does not depend on the network."""
        alpha_bar = self.schedule.alpha_bar(len(self.schedule)).item()
        return _bits_per_dim(gaussian_kl(alpha_bar**0.5 * self.x0, 1 - alpha_bar, torch.zeros_like(self.x0), 1.0))


def _bits_per_dim(nats: Float[Tensor, "n c h w"]) -> Float64[Tensor, "n"]:
    return nats.sum((1, 2, 3)).cpu() / (prod(nats.shape[1:]) * log(2))
