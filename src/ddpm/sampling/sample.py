"""The public `sample`: images from any trained network."""

from typing import Any

import torch
from jaxtyping import Float, Integer, Shaped
from torch import Tensor
from tqdm import tqdm

from ddpm.conditioning.guidance import given
from ddpm.diffusion.model import DiffusionModel
from ddpm.run.compute import Compute
from ddpm.run.progress import hidden
from ddpm.sampling.arguments import (
    OnStep,
    check_batch_size,
    check_guidance,
    cond_of,
    device_of,
    latents_of,
    noise_seeds,
    noise_streams,
    options_of,
    steps_below,
)
from ddpm.sampling.chain import sample_steps
from ddpm.sampling.sampler import SAMPLERS


def sample(
    model: DiffusionModel,
    n_samples: int | None = None,
    return_all_steps: bool = False,
    generator: torch.Generator | None = None,
    *,
    sampler: str = "ancestral",
    n_steps: int | None = None,
    spacing: str = "even",
    cond: Shaped[Tensor, "n *rest"] | None = None,
    labels: Integer[Tensor, " n"] | None = None,
    captions: list[str] | None = None,
    guidance_scale: float = 1.0,
    clip_sample: bool | float = False,
    start: Float[Tensor, "n c h w"] | None = None,
    num_steps: int | None = None,
    batch_size: int = 256,
    on_step: OnStep | None = None,
    **options: Any,
) -> Float[Tensor, "n c h w"] | list[Float[Tensor, "n c h w"]]:
    """Draw images, by default by Algorithm 2, on the model's device.

    A conditional model draws its own conditioning unless `cond`, `labels` or `captions` are given.

    Args:
        model: A trained network, such as `load_model("models/unet.safetensors")`.
        n_samples: Number of images, or None for one per caption.
        return_all_steps: Return every step, not only the final images.
        generator: Seeds the noise of each image. Without one, torch's global state is read but not advanced. For
            different images, call `torch.manual_seed` or pass a generator.
        sampler: The name of a file in `ddpm/sampling/samplers`.
        n_steps: Number of sampler steps, from 1 to T, or None for T.
        spacing: Spacing of the timesteps, a function in `ddpm/sampling/spacing.py`.
        cond: The conditioning, one row per image, as returned by `model.conditioning.encode`.
        labels: Class indices, for a class-conditional model.
        captions: Captions such as ["a dark dress"], for a text-conditional model.
        guidance_scale: Scale of classifier-free guidance, for a model that was trained with it, or 1 for none.
        clip_sample: Whether to clip each x_0 estimate to [-1, 1], or a quantile between 0 and 1, such as 0.995, for
            dynamic thresholding (`ddpm.sampling.clipping`).
        start: x_t to start from, as returned by `noise_to` and `encode`, or None for pure noise.
        num_steps: t of `start`, from 1 to T, or None for T. Steps above t are skipped.
        batch_size: Images per batch. It affects memory and speed, not the noise.
        on_step: Called with t and the batch's x_t at the start and after each step, down to t = 0.
        options: Options of the sampler, such as `variance="fixed_small"` of ancestral or `eta=1.0` of ddim.

    Returns:
        (n, c, h, w) images of about [-1, 1], not clamped. With `return_all_steps`, a list of such batches for all steps
        from x_T (or `start`) to x_0.

    Raises:
        ValueError: The model is not trained, or an argument is not allowed. The message says what is.
        UserError: A caption is empty, too long or contradictory, or has an unknown word.
    """
    if n_samples is None:
        if captions is None:
            raise ValueError("n_samples is None; give a number of images, or captions")
        n_samples = len(captions)
    if n_samples < 0:
        raise ValueError(f"n_samples is {n_samples}; it must be at least 0")
    check_batch_size(batch_size)
    own, steps = options_of(sampler, options), steps_below(model, num_steps, n_steps, spacing)
    if len(steps) <= SAMPLERS[sampler].min_steps:
        raise ValueError(f"n_steps is {len(steps) - 1}; sampler {sampler} takes at least {SAMPLERS[sampler].min_steps}")
    check_guidance(model, guidance_scale)
    if num_steps is not None and start is None:
        raise ValueError(f"num_steps is {num_steps}; it is the t of start, which must be given too")
    latents = None if start is None else latents_of(model, start, n_samples)
    seeds = noise_seeds(n_samples, generator)
    # Image i does not depend on n_samples.
    cond = cond_of(model, n_samples, seeds[0], cond=cond, labels=labels, captions=captions)
    device = device_of(model)
    batches: list[list[Tensor]] = []
    firsts = range(0, max(n_samples, 1), batch_size)
    with tqdm(total=len(firsts) * len(steps), desc="sample", disable=hidden()) as progress:
        for first in firsts:
            chosen = slice(first, min(first + batch_size, n_samples))
            streams, xt = noise_streams(seeds[chosen]), None if latents is None else latents[chosen]
            images = given(model, cond, chosen, guidance_scale)
            kept: list[Tensor] = []
            chain = sample_steps(images, streams, steps, sampler, own, clip_sample, Compute(device), xt)
            for t, x in zip(steps.flip(0).tolist(), chain, strict=True):
                kept = [*kept, x] if return_all_steps else [x]
                progress.update()
                if on_step:
                    on_step(t, x)
            batches.append(kept)
    moments = [torch.cat(moment) for moment in zip(*batches, strict=True)]
    return moments if return_all_steps else moments[-1]
