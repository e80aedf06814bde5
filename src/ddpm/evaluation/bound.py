"""The variational bound on the code length of 8-bit images under a model (Ho et al. 2020, equation 5)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import log, prod

import torch
from jaxtyping import Float, Float64, Shaped, UInt8
from torch import Tensor
from tqdm import tqdm

from ddpm.diffusion.bound import HALF_BIN, bound_term, gaussian_kl
from ddpm.diffusion.forward import add_noise
from ddpm.diffusion.model import DiffusionModel, evaluation_mode, labelled
from ddpm.diffusion.posterior import Variance, reverse_variance, to_x0
from ddpm.images import from_uint8, normalize_img
from ddpm.run.compute import Compute
from ddpm.run.seeding import generator

Rows = tuple[Float64[Tensor, "n"], ...]


@dataclass(frozen=True)
class Bound:
    """terms: L_0, L_1, ..., L_T of each image, in bits a pixel and channel ("bits/dim"); their sum is the bound.

    squared_errors: of the estimates of x_0 from x_1, ..., x_T, as means over the pixels, in squared levels of 0..255.
    Both are NaN where an image was not taken at a step. Images `stride` apart were taken at the same steps.
    """

    terms: Float64[Tensor, "T_plus_1 n"]
    squared_errors: Float64[Tensor, "T n"]
    stride: int

    @property
    def means(self) -> Float64[Tensor, "T_plus_1"]:
        """L_0, L_1, ..., L_T, each over the images that were taken there."""
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
        """Half the width of its 95 % confidence interval, over images and noise; it needs 2 * stride images.

        Each image stands for all at its steps. Every step has its share of the images, so it is only their spread among
        those of the same steps that leaves the sum uncertain: the standard error of a stratified sample.
        """
        n = self.terms.shape[1]
        totals = (self.terms * (n / self.terms.isfinite().sum(1, keepdim=True))).nansum(0)
        groups = [totals[first :: self.stride] for first in range(self.stride)]
        return 1.96 * sum(len(group) * group.var().item() for group in groups) ** 0.5 / n

    @property
    def rate(self) -> Float64[Tensor, "T_plus_1"]:
        """Bits/dim until x_t is known, L_t + ... + L_T, at t = 0, ..., T (Algorithms 3 and 4); at 0 it is the bound."""
        return self.means.flip(0).cumsum(0).flip(0)

    @property
    def distortion(self) -> Float64[Tensor, "T"]:
        """Root mean square error of the estimate from x_t, in levels of 0..255, at t = 1, ..., T; x_0 has none."""
        return self.squared_errors.nanmean(1).sqrt()


def variational_bound(
    model: DiffusionModel,
    images: UInt8[Tensor, "n c h w"],
    variances: Sequence[Variance],
    seed: int,
    compute: Compute = Compute(),
    clip_sample: bool = False,
    batch_size: int = 256,
    stride: int = 1,
    labels: Shaped[Tensor, "m"] | None = None,
    once: Callable[[str, Callable[[], Rows]], Rows] = lambda _, make: make(),
) -> dict[str, Bound]:
    """Every term of equation 5 for each of `variances`, L_{t-1} (equation 8) with one draw of noise an image.

    variances: as in `reverse_variance`; clip_sample: hold each x0 estimate to [-1, 1]. L_0 is the discrete decoder's
    (equation 13).
    stride: above 1, image i is taken only at t = 1 and where t - i is a multiple of it, so that many images cost as
    much as few; at least 2 * stride images. labels: what the first images show, for a model that must be told; then it
    is the code length of an image whose label is known. once: keeps each step's part of the work, for a stage that is
    killed (`Pieces.within`).
    Raises ValueError for a model without noise_schedule, or with one of fewer than 2 steps, for too few images, and for
    variance "learned" of a model that has learned none.
    """
    schedule = model.noise_schedule
    if schedule is None or len(schedule) < 2:
        raise ValueError("the bound needs a model with a noise_schedule of at least 2 steps")
    if len(images) < 2 * stride:
        raise ValueError(f"{len(images)} images are too few for stride {stride}; need at least {2 * stride}")
    max_steps = len(schedule)
    x0 = normalize_img(from_uint8(images))

    def at_step(t: int) -> Rows:
        """The squared errors at t, and L_{t-1} with each variance; a row of all images each."""
        rows = torch.full((1 + len(variances), len(x0)), torch.nan).double()
        chosen = torch.arange(len(x0)) if t == 1 else torch.arange(t % stride, len(x0), stride)
        noise = torch.randn((len(chosen), *x0.shape[1:]), generator=generator(seed, "bound", t))
        for part, eps in zip(chosen.split(batch_size), noise.split(batch_size), strict=True):
            clean, eps = x0[part].to(compute.device), eps.to(compute.device)
            steps = torch.full((len(clean),), t, device=compute.device)
            xt = add_noise(clean, eps, steps, schedule)
            with torch.no_grad(), evaluation_mode(model), compute.autocast():
                predicted, v = labelled(model, labels, part).with_variance(xt, steps)
            estimate = to_x0(model.prediction, predicted.double(), xt.double(), steps, schedule)
            estimate = estimate.clamp(-1, 1) if clip_sample else estimate
            rows[0, part] = ((estimate - clean) / (2 * HALF_BIN)).square().mean((1, 2, 3)).cpu()
            for row, variance in zip(rows[1:], variances, strict=True):
                sigma2 = reverse_variance(variance, steps, schedule, v)
                row[part] = _bits_per_dim(bound_term(clean, estimate, xt, steps, schedule, sigma2))
        return tuple(rows)

    by_step = [once(str(t), partial(at_step, t)) for t in tqdm(range(1, max_steps + 1), "bound", disable=None)]
    errors, *terms = (torch.stack(rows) for rows in zip(*by_step, strict=True))
    alpha_bar = schedule.alpha_bar(max_steps).item()
    last = _bits_per_dim(gaussian_kl(alpha_bar**0.5 * x0, 1 - alpha_bar, torch.zeros_like(x0), 1.0))
    found = {variance: torch.cat([rows, last[None]]) for variance, rows in zip(variances, terms, strict=True)}
    return {variance: Bound(rows, errors, stride) for variance, rows in found.items()}


def _bits_per_dim(nats: Float[Tensor, "n c h w"]) -> Float64[Tensor, "n"]:
    return nats.sum((1, 2, 3)).cpu() / (prod(nats.shape[1:]) * log(2))
