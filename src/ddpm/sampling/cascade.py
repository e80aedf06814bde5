"""Cascades: samples of one network, upsampled by a super-resolution network (Ho et al. 2021, Saharia et al. 2022)."""

from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from ddpm.conditioning.kinds.low_resolution import LowResolution, with_noise
from ddpm.diffusion.model import DiffusionModel
from ddpm.run.seeding import derive_seed, generator
from ddpm.sampling.draw import SampleModel
from ddpm.sampling.sample import sample

LEVEL = 0.1  # of the noise that hides the artefacts of a base model
Level = Annotated[float, Ge(0), Le(1)]


class SampleSuper(SampleModel):
    """How samples are upsampled. level: noise level of the low-resolution image, from 0 (none) to 1 (pure noise)."""

    level: Level


def noised(
    model: DiffusionModel, low: Float[Tensor, "n c h1 w1"], level: float, seed: int
) -> Float[Tensor, "n c1 h1 w1"]:
    """The conditioning of a super-resolution network: noised low-resolution images, and the noise level.

    Args:
        model: A network whose conditioning is `low_resolution`.
        low: Low-resolution images in [-1, 1].
        level: Noise level, from 0 (none) to 1 (pure noise).
        seed: Seed of the noise, which depends only on the seed and the index of an image.

    Raises:
        ValueError: The network has another conditioning or image size, or the level is out of range.
    """
    if not isinstance(model.conditioning, LowResolution):
        raise ValueError("this model does not take low-resolution images; train one with conditioning low_resolution")
    found, wanted = tuple(low.shape[1:]), tuple(model.conditioning.kept.shape[1:])
    if found != wanted:
        raise ValueError(f"low-resolution images have shape {found}; this model takes {wanted}")
    noise = torch.empty(low.shape)
    for i, image in enumerate(noise):
        image.normal_(generator=generator(seed, "augmentation", i))
    return with_noise(low.cpu().clamp(-1, 1), torch.full((len(low),), level), noise)


def enlarge(
    model: DiffusionModel, low: Float[Tensor, "n c h1 w1"], level: float = LEVEL, seed: int = 0, **options: Any
) -> Float[Tensor, "n c h w"]:
    """Upsample images: draw high-resolution images given low-resolution ones.

    Args:
        model: A network whose conditioning is `low_resolution`.
        low: Low-resolution images in [-1, 1], such as samples of the previous network in a cascade.
        level: Level of the noise added to `low` to hide artefacts, from 0 (none) to 1 (pure noise).
        seed: Seed of all noise.
        options: Further arguments of `sample`.

    Returns:
        Images of about [-1, 1], not clamped.

    Raises:
        ValueError: As for `noised` and `sample`.
    """
    cond = noised(model, low, level, seed)
    stream = torch.Generator().manual_seed(derive_seed(seed, "enlarge"))
    return torch.as_tensor(sample(model, len(low), generator=stream, cond=cond, **options))
