"""The public `sample`: images from any trained network."""

from typing import Any

import torch
from jaxtyping import Float, Integer, Shaped
from pydantic import ValidationError
from torch import Tensor
from tqdm import tqdm

from ddpm.conditioning.guidance import draw_cond, given
from ddpm.diffusion.model import DiffusionModel, schedule_of
from ddpm.run.compute import Compute
from ddpm.run.params import Section
from ddpm.sampling.chain import sample_steps
from ddpm.sampling.sampler import SAMPLERS
from ddpm.sampling.spacing import timesteps


def sample(
    model: DiffusionModel,
    n_samples: int,
    return_all_steps: bool = False,
    generator: torch.Generator | None = None,
    *,
    sampler: str = "ancestral",
    n_steps: int | None = None,
    spacing: str = "even",
    cond: Shaped[Tensor, "n *rest"] | None = None,
    labels: Integer[Tensor, " n"] | None = None,
    guidance_scale: float = 1.0,
    clip_sample: bool = False,
    batch_size: int = 256,
    **options: Any,
) -> Float[Tensor, "n c h w"] | list[Float[Tensor, "n c h w"]]:
    """Draw images, by default by Algorithm 2, on the model's device.

    A conditional model draws its own conditioning unless `cond` or `labels` is given.

    Args:
        model: A trained network, such as `load_model("models/unet.safetensors")`.
        n_samples: Number of images.
        return_all_steps: Return every step, not only the result.
        generator: Seeds the noise stream of each image. Without one, torch's global state is read but not advanced:
            call `torch.manual_seed` or pass a generator for other images.
        sampler: A file in `ddpm/sampling/samplers`.
        n_steps: Steps of the sampler, from 1 to T; None for all T.
        spacing: Of the steps, a function of `ddpm/sampling/spacing.py`.
        cond: The conditioning, one row an image, as `model.conditioning.encode` gives it.
        labels: Class numbers, for a class-conditional model.
        guidance_scale: Classifier-free guidance, for a model that was trained with it; 1 for none.
        clip_sample: Clip each x_0 estimate to [-1, 1].
        batch_size: Images at a time; it changes memory and speed, not the noise.
        options: Options of the sampler, such as `variance="fixed_small"` of ancestral or `eta=1.0` of ddim.

    Returns:
        (n, c, h, w) images of about [-1, 1], not clamped; with `return_all_steps`, the list of n_steps + 1 batches from
        x_T to x_0.

    Raises:
        ValueError: The model is not trained, or an argument is not allowed; the message says what is.
    """
    if n_samples < 0:
        raise ValueError(f"n_samples is {n_samples}; it must be at least 0")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    own, steps = _options(sampler, options), timesteps(schedule_of(model), n_steps, spacing)
    if len(steps) <= SAMPLERS[sampler].min_steps:
        raise ValueError(f"n_steps is {len(steps) - 1}; sampler {sampler} takes at least {SAMPLERS[sampler].min_steps}")
    if guidance_scale != 1 and not getattr(model.conditioning, "dropout", 0):
        raise ValueError(
            f"guidance_scale is {guidance_scale:g}; this model was not trained with and without conditioning, so it "
            "must be 1"
        )
    if generator is None:
        generator = torch.Generator()
        generator.set_state(torch.get_rng_state())
    seeds = torch.randint(2**63 - 1, (max(n_samples, 1),), generator=generator, device=generator.device).tolist()
    cond = _cond(model, n_samples, cond, labels, seeds[0])  # whatever n_samples is, image i is the same
    device = next(model.parameters(), torch.empty(0)).device
    batches: list[list[Tensor]] = []
    firsts = range(0, max(n_samples, 1), batch_size)
    with tqdm(total=len(firsts) * len(steps), desc="sample", disable=None) as progress:
        for first in firsts:
            chosen = slice(first, min(first + batch_size, n_samples))
            streams = [torch.Generator().manual_seed(seed) for seed in seeds[chosen]]
            images = given(model, cond, chosen, guidance_scale)
            kept: list[Tensor] = []
            for x in sample_steps(images, streams, steps, sampler, own, clip_sample, Compute(device)):
                kept = [*kept, x] if return_all_steps else [x]
                progress.update()
            batches.append(kept)
    moments = [torch.cat(moment) for moment in zip(*batches, strict=True)]
    return moments if return_all_steps else moments[-1]


def _options(sampler: str, options: dict[str, Any]) -> Section:
    """The options of a sampler; ValueError if there is no such sampler, or it takes no such options."""
    model = SAMPLERS[SAMPLERS.checked(sampler)].Options
    try:
        return model(**options)
    except ValidationError as error:
        allowed = ", ".join(model.model_fields) or "none"
        mistakes = "; ".join(f"{'.'.join(map(str, m['loc']))} is {m['input']!r}: {m['msg']}" for m in error.errors())
        raise ValueError(f"{mistakes}; options of sampler {sampler}: {allowed}") from None


def _cond(
    model: DiffusionModel, n_samples: int, cond: Tensor | None, labels: Tensor | None, seed: int
) -> Shaped[Tensor, "n *rest"] | None:
    """The conditioning of each image: as it is given, of the labels, or drawn."""
    for name, rows in {"cond": cond, "labels": labels}.items():
        if rows is not None and model.conditioning is None:
            raise ValueError(f"{name} is given; this model is unconditional, so it must be None")
        if rows is not None and len(rows) != n_samples:
            raise ValueError(f"{name} has {len(rows)} rows; n_samples is {n_samples}, so it must have as many")
    if labels is None:
        return draw_cond(model, seed, range(n_samples)) if cond is None else cond
    if cond is not None:
        raise ValueError("cond and labels are given; one of them must be None")
    return model.conditioning.of_labels(labels)
