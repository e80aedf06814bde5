"""The variational bound on the code length of 8-bit images under a model (Ho et al. 2020, equation 5)."""

from dataclasses import dataclass
from math import log, prod

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from ddpm.compute import Compute
from ddpm.diffusion.forward import add_noise
from ddpm.diffusion.objective import bound_term, gaussian_kl
from ddpm.diffusion.posterior import Variance, reverse_variance, to_x0
from ddpm.images import from_uint8, normalize_img
from ddpm.models.base import DiffusionModel, evaluation_mode
from ddpm.seeding import generator


@dataclass(frozen=True)
class Bound:
    """terms: L_0, L_1, ..., L_T of each image, in bits a pixel and channel ("bits/dim"); their sum is the bound."""

    terms: Float64[Tensor, "T_plus_1 n"]

    @property
    def bits_per_dim(self) -> float:
        """The bound, as the mean over the images."""
        return self.terms.sum(0).mean().item()

    @property
    def margin(self) -> float:
        """Half the width of its 95 % confidence interval, over images and noise; it needs 2 images."""
        totals = self.terms.sum(0)
        return 1.96 * totals.std().item() / len(totals) ** 0.5


def variational_bound(
    model: DiffusionModel,
    images: UInt8[Tensor, "n c h w"],
    variance: Variance,
    seed: int,
    compute: Compute = Compute(),
    clip_sample: bool = False,
    batch_size: int = 256,
) -> Bound:
    """Every term of equation 5, each L_{t-1} (equation 8) with one draw of noise an image.

    variance: as in `reverse_variance`; clip_sample: hold each x0 estimate to [-1, 1]. L_0 is the discrete decoder's
    (equation 13). Raises ValueError for a model without noise_schedule, or with one of fewer than 2 steps, and for
    variance "learned" of a model that has learned none.
    """
    schedule = model.noise_schedule
    if schedule is None or len(schedule) < 2:
        raise ValueError("the bound needs a model with a noise_schedule of at least 2 steps")
    x0 = normalize_img(from_uint8(images))
    alpha_bar = schedule.alpha_bar(len(schedule)).item()
    terms = []
    for t in range(1, len(schedule) + 1):
        noise = torch.randn(x0.shape, generator=generator(seed, "bound", t))
        nats = []
        for clean, eps in zip(x0.split(batch_size), noise.split(batch_size), strict=True):
            clean, eps = clean.to(compute.device), eps.to(compute.device)
            steps = torch.full((len(clean),), t, device=compute.device)
            xt = add_noise(clean, eps, steps, schedule)
            with torch.no_grad(), evaluation_mode(model), compute.autocast():
                predicted, v = model.with_variance(xt, steps)
            estimate = to_x0(model.prediction, predicted.double(), xt.double(), steps, schedule)
            estimate = estimate.clamp(-1, 1) if clip_sample else estimate
            sigma2 = reverse_variance(variance, steps, schedule, v)
            nats.append(bound_term(clean, estimate, xt, steps, schedule, sigma2))
        terms.append(_bits_per_dim(torch.cat(nats)))
    last_mean = alpha_bar**0.5 * x0
    terms.append(_bits_per_dim(gaussian_kl(last_mean, 1 - alpha_bar, torch.zeros_like(x0), 1.0)))
    return Bound(torch.stack(terms))


def _bits_per_dim(nats: Float[Tensor, "n c h w"]) -> Float64[Tensor, "n"]:
    return nats.sum((1, 2, 3)).cpu() / (prod(nats.shape[1:]) * log(2))
