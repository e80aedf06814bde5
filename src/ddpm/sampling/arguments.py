"""Checks and conversions of the arguments that the public sampling functions share."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int, Integer, Shaped
from pydantic import ValidationError
from torch import Tensor

from ddpm.conditioning.guidance import draw_cond
from ddpm.diffusion.model import DiffusionModel, schedule_of
from ddpm.images import check_images
from ddpm.run.params import Section
from ddpm.sampling.sampler import SAMPLERS
from ddpm.sampling.spacing import timesteps

MOST_GUIDANCE = 100
OnStep: TypeAlias = Callable[[int, Float[Tensor, "n c h w"]], None]  # called with t and x_t


def device_of(model: DiffusionModel) -> torch.device:
    """The device of the model's parameters."""
    return next(model.parameters(), torch.empty(0)).device


def noise_seeds(n: int, generator: torch.Generator | None) -> list[int]:
    """A seed for each of n images. Without a generator, torch's global state is read but not advanced."""
    if generator is None:
        generator = torch.Generator()
        generator.set_state(torch.get_rng_state())
    return torch.randint(2**63 - 1, (max(n, 1),), generator=generator, device=generator.device).tolist()


def noise_streams(seeds: list[int]) -> list[torch.Generator]:
    """A random generator for each seed, on the CPU."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def latents_of(model: DiffusionModel, start: Tensor, n: int) -> Float[Tensor, "n c h w"]:
    """Move x_t to the device and precision of the model's weights.

    Raises:
        ValueError: `start` is not a float tensor of n images of the model's shape.
    """
    if tuple(start.shape) != (n, *model.img_shape) or not start.is_floating_point():
        expected = (n, *model.img_shape)
        raise ValueError(f"start has shape {tuple(start.shape)} and type {start.dtype}; it must be floats, {expected}")
    return _as_weights(model, start)


def images_of(model: DiffusionModel, images: Tensor, name: str = "images") -> Float[Tensor, "n c h w"]:
    """Move images to the device and precision of the model's weights.

    Raises:
        ValueError: As for `check_images`.
    """
    check_images(images, model.img_shape, name)
    return _as_weights(model, images)


def _as_weights(model: DiffusionModel, images: Tensor) -> Tensor:
    """Move images to the device and precision of the model's weights."""
    return images.to(next(model.parameters(), images))


def check_batch_size(batch_size: int) -> None:
    """Raise ValueError unless a batch has at least one image."""
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")


def check_guidance(model: DiffusionModel, guidance_scale: float) -> None:
    """Raise ValueError for a scale outside 1..MOST_GUIDANCE, or above 1 for a model not trained for guidance."""
    if not 1 <= guidance_scale <= MOST_GUIDANCE:
        raise ValueError(f"guidance_scale is {guidance_scale:g}; it must be from 1 to {MOST_GUIDANCE}")
    if guidance_scale != 1 and not getattr(model.conditioning, "dropout", 0):
        raise ValueError(
            f"guidance_scale is {guidance_scale:g}; this model was trained without dropout of its conditioning, so "
            "it must be 1"
        )


def options_of(sampler: str, options: dict[str, Any]) -> Section:
    """The options of a sampler.

    Raises:
        ValueError: There is no such sampler, or it does not take these options.
    """
    model = SAMPLERS[SAMPLERS.checked(sampler)].Options
    try:
        return model(**options)
    except ValidationError as error:
        allowed = ", ".join(model.model_fields) or "none"
        mistakes = "; ".join(f"{'.'.join(map(str, m['loc']))} is {m['input']!r}: {m['msg']}" for m in error.errors())
        raise ValueError(f"{mistakes}; options of sampler {sampler}: {allowed}") from None


def steps_below(
    model: DiffusionModel, num_steps: int | None, n_steps: int | None, spacing: str
) -> Int[Tensor, "n_plus_1"]:
    """The timesteps of a chain from t = `num_steps` to 0.

    Args:
        model: A trained network.
        num_steps: t, from 1 to T, or None for T.
        n_steps: Steps of a whole chain, as in `spacing.timesteps`. Its timesteps below t are kept, and t is added.
        spacing: Spacing of the timesteps.

    Raises:
        ValueError: An argument is not allowed.
    """
    steps, highest = timesteps(schedule_of(model), n_steps, spacing), len(schedule_of(model))
    if num_steps is None:
        return steps
    return torch.cat((steps[steps < checked_step(num_steps, highest)], torch.tensor([num_steps])))


def checked_step(num_steps: int, highest: int) -> int:
    """Return `num_steps` if it is in 1..highest.

    Raises:
        ValueError: It is not.
    """
    if not 1 <= num_steps <= highest:
        raise ValueError(f"num_steps is {num_steps}; it must be in 1..{highest}, the steps of this model's schedule")
    return num_steps


def cond_of_images(
    model: DiffusionModel, images: Float[Tensor, "n c h w"], labels: Integer[Tensor, " n"] | None
) -> Shaped[Tensor, "n *rest"] | None:
    """The conditioning of images, encoded from their labels if given, otherwise from the images themselves.

    Raises:
        ValueError: Labels are missing, not accepted by the model, or not one per image.
    """
    if labels is not None or model.conditioning is None:
        return cond_of(model, len(images), 0, labels=labels)
    try:
        return model.conditioning.encode(images, None)
    except ValueError:
        raise ValueError(f"labels is None; this model needs the classes of the {len(images)} images") from None


def cond_of(
    model: DiffusionModel,
    n: int,
    seed: int,
    *,
    cond: Tensor | None = None,
    labels: Integer[Tensor, " n"] | None = None,
    captions: Sequence[str] | None = None,
) -> Shaped[Tensor, "n *rest"] | None:
    """The conditioning of n images: `cond`, encoded labels or captions, or drawn by the model if none is given.

    Args:
        model: The network.
        n: Number of images.
        seed: Seed for drawing.
        cond: As encoded by the network's `conditioning`.
        labels: Class indices, from 0.
        captions: One per image.

    Returns:
        None for an unconditional network.

    Raises:
        ValueError: The model is unconditional, more than one argument is given, or it does not have n rows.
        UserError: A caption cannot be parsed.
    """
    arguments = {"cond": cond, "labels": labels, "captions": captions}
    given = {name: rows for name, rows in arguments.items() if rows is not None}
    for name, rows in given.items():
        if model.conditioning is None:
            raise ValueError(f"{name} is given; this model is unconditional, so it must be None")
        if len(rows) != n:
            raise ValueError(f"{name} has {len(rows)} rows; there are {n} images, so it must have as many")
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are given; only one of them may be")
    if labels is not None:
        return model.conditioning.of_labels(labels)
    if captions is not None:
        return model.conditioning.of_captions(captions)
    drawn = draw_cond(model, seed, range(n))
    if drawn is None or cond is None:
        return drawn
    if (cond.shape, cond.dtype) != (drawn.shape, drawn.dtype):
        raise ValueError(
            f"cond has shape {tuple(cond.shape)} and type {cond.dtype}; this model takes {tuple(drawn.shape)} and "
            f"{drawn.dtype}, as model.conditioning.encode returns it"
        )
    model.conditioning.check(cond)
    return cond
