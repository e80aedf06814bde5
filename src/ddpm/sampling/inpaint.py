"""Inpainting.

By RePaint (Lugmayr et al. 2022), which works with any network, or with a network that was trained to inpaint,
conditioned on the image around the hole (GLIDE, Nichol et al. 2021, section 2.4).
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor
from tqdm import tqdm

from ddpm.conditioning.guidance import given
from ddpm.diffusion.model import DiffusionModel, schedule_of
from ddpm.diffusion.posterior import posterior_mean, reverse_variance
from ddpm.images import denormalize_img, to_uint8
from ddpm.run.compute import Compute
from ddpm.run.progress import hidden
from ddpm.sampling.arguments import (
    OnStep,
    check_batch_size,
    check_guidance,
    cond_of,
    device_of,
    images_of,
    noise_seeds,
    noise_streams,
)
from ddpm.sampling.denoiser import NetworkDenoiser
from ddpm.sampling.levels import levels
from ddpm.sampling.sample import sample
from ddpm.sampling.spacing import respace, timesteps


def inpaint(
    model: DiffusionModel,
    images: Shaped[Tensor, "n c h w"],
    mask: Shaped[Tensor, "*mask"],
    generator: torch.Generator | None = None,
    *,
    n_resamples: int = 10,
    n_steps: int | None = None,
    spacing: str = "even",
    cond: Shaped[Tensor, "n *rest"] | None = None,
    labels: Integer[Tensor, " n"] | None = None,
    captions: list[str] | None = None,
    guidance_scale: float = 1.0,
    clip_sample: bool | float = False,
    batch_size: int = 256,
    on_step: OnStep | None = None,
) -> Float[Tensor, "n c h w"]:
    """Fill in the masked pixels of images, consistently with the others.

    RePaint takes each step of Algorithm 2 for the masked pixels and noises the known pixels to the same t (equation 4).
    To harmonise the two, each step is undone by adding noise and repeated. A network that was trained to inpaint needs
    none of this: it is conditioned on the known pixels and samples by Algorithm 2.

    Args:
        model: A trained network.
        images: x_0 in [-1, 1]. Masked pixels are ignored.
        mask: True where pixels are to be filled in: (h, w) for all images, or (n, 1, h, w).
        generator: Seeds the noise of each image, as in `sample`.
        n_resamples: How often each step is taken, at least 1. Higher values harmonise better, at proportional cost. Not
            used with a network that was trained to inpaint.
        n_steps: Number of steps, from 1 to T, or None for T.
        spacing: Spacing of the timesteps, a function in `ddpm/sampling/spacing.py`.
        cond: The conditioning, one row per image, as in `sample`.
        labels: Class indices, for a class-conditional model.
        captions: Captions such as ["a dark dress"], for a text-conditional model.
        guidance_scale: Scale of classifier-free guidance, for a model that was trained with it, or 1 for none.
        clip_sample: Whether to clip each x_0 estimate to [-1, 1], or a quantile between 0 and 1, such as 0.995, for
            dynamic thresholding (`ddpm.sampling.clipping`).
        batch_size: Images per batch.
        on_step: Called with t and the batch's x_t after each step, from T to 0.

    Returns:
        The images with the masked pixels filled in and the others unchanged.

    Raises:
        ValueError: An argument is not allowed. The message says what is.
        UserError: A caption is empty, too long or contradictory, or has an unknown word.
    """
    x0, kept = images_of(model, images), timesteps(schedule_of(model), n_steps, spacing)
    check_batch_size(batch_size)
    check_guidance(model, guidance_scale)
    if n_resamples < 1:
        raise ValueError(f"n_resamples is {n_resamples}; it must be at least 1")
    size = model.img_shape[1:]
    if mask.dtype != torch.bool or tuple(mask.shape) not in (size, (len(x0), 1, *size)):
        expected = f"{size} or {(len(x0), 1, *size)}"
        raise ValueError(f"mask has shape {tuple(mask.shape)} and type {mask.dtype}; it must be bool, {expected}")
    if not mask.any():
        raise ValueError("mask is False everywhere; it must be True where pixels are to be filled in")
    masks = mask.to(x0.device).expand(len(x0), 1, *size)
    seeds = noise_seeds(len(x0), generator)
    cond = cond_of(model, len(x0), seeds[0], cond=cond, labels=labels, captions=captions)
    if getattr(model.conditioning, "gives_mask", False):
        cond = model.conditioning.around(cond, to_uint8(denormalize_img(x0)).cpu(), masks.cpu())
        drawn = sample(
            model,
            len(x0),
            generator=generator,
            n_steps=n_steps,
            spacing=spacing,
            cond=cond,
            guidance_scale=guidance_scale,
            clip_sample=clip_sample,
            batch_size=batch_size,
            on_step=on_step,
            variance="fixed_small",
        )
        return torch.where(masks, torch.as_tensor(drawn), x0)
    firsts, found = range(0, len(x0), batch_size), [x0[:0]]
    with tqdm(total=len(firsts) * (len(kept) - 1) * n_resamples, desc="inpaint", disable=hidden()) as progress:
        for first in firsts:
            chosen = slice(first, min(first + batch_size, len(x0)))
            batch = given(model, cond, chosen, guidance_scale)
            denoise = NetworkDenoiser(batch, kept, clip_sample, Compute(device_of(model)))
            found.append(_filled(denoise, x0[chosen], masks[chosen], seeds[chosen], n_resamples, progress, on_step))
    return torch.cat(found)


def _filled(
    denoise: NetworkDenoiser,
    x0: Float[Tensor, "b c h w"],
    mask: Bool[Tensor, "b 1 h w"],
    seeds: list[int],
    n_resamples: int,
    progress: "tqdm[Any]",
    on_step: OnStep | None,
) -> Float[Tensor, "b c h w"]:
    """Algorithm 1 of Lugmayr et al. 2022, with jumps of one step. No noise is added at t = 1."""
    schedule = respace(denoise.schedule, torch.tensor(denoise.timesteps))
    at, streams = levels(schedule), noise_streams(seeds)

    def noise() -> Tensor:
        return torch.stack([torch.randn(x0.shape[1:], generator=stream) for stream in streams]).to(x0)

    x = noise()
    if on_step:
        on_step(denoise.timesteps[-1], x)
    for t in range(len(schedule), 0, -1):
        num_steps = torch.full((len(x0),), t, device=x0.device)
        deviation = reverse_variance("fixed_small", num_steps, schedule).sqrt().to(x0) if t > 1 else 0.0
        for left in reversed(range(n_resamples)):
            unknown = posterior_mean(denoise(x, t), x, num_steps, schedule) + deviation * noise()
            known = at.alpha[t - 1] * x0 + at.sigma[t - 1] * noise()
            x = torch.where(mask, unknown, known)
            if left:
                share = at.alpha[t] / at.alpha[t - 1]  # sqrt(1 - beta_t) of this schedule
                x = share * x + (1 - share**2) ** 0.5 * noise()
            progress.update()
        if on_step:
            on_step(denoise.timesteps[t - 1], x)
    return x
