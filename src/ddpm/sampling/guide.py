"""Samples of a cascade by caption, guidance scale and clipping method, for figures."""

from functools import partial
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le, Len
from jaxtyping import UInt8
from pydantic import AfterValidator
from torch import Tensor

from ddpm.captions.grid import CaptionText, GuidanceScale
from ddpm.captions.vocabulary import tokens
from ddpm.conditioning.captioned import cond_of_rows
from ddpm.diffusion.model import DiffusionModel
from ddpm.images import denormalize_img, to_uint8
from ddpm.registry import Registry
from ddpm.run.params import Chooses
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import derive_seed
from ddpm.run.stage import StageRun
from ddpm.sampling.cascade import Level, enlarge
from ddpm.sampling.clipping import ClipSample
from ddpm.sampling.sample import sample
from ddpm.sampling.sampler import SAMPLERS


class Guide(Chooses):
    """Section `guide`. n_each: samples per caption, scale and clipping method. The rest as in `sample_super`."""

    captions: Annotated[list[CaptionText], Len(1, 12)]
    guidance_scales: Annotated[list[GuidanceScale], Len(1, 8)]
    clip_samples: Annotated[list[ClipSample], Len(1, 4)]
    n_each: Annotated[int, Ge(1), Le(64)]
    sampler: Annotated[str, AfterValidator(SAMPLERS.checked)]
    n_steps: Annotated[int, Ge(3), Le(10_000)]
    level: Level

    @classmethod
    def registries(cls) -> dict[str, Registry[Any]]:
        """The registry of each field."""
        return {"sampler": SAMPLERS}

    @property
    def most_processes(self) -> int:
        """One per combination of scale and clipping method."""
        return len(self.guidance_scales) * len(self.clip_samples)


def draw_guided(stage: StageRun, base: DiffusionModel, model: DiffusionModel) -> dict[str, Tensor]:
    """Draw the samples that `stage.params`, a `Guide`, specifies. All combinations have the same noise.

    Args:
        stage: The running stage. Finished samples of an interrupted run are not drawn again.
        base: The text-conditional network.
        model: The super-resolution network.

    Returns:
        samples: (clips, scales, captions, n_each, c, h, w), 8-bit. tokens: the captions. guidance_scales. clip_samples:
        0 for none, 1 for static, else the quantile.
    """
    params, pieces = stage.params, Pieces(stage.resume)
    rows = tokens(params.captions).repeat_interleave(params.n_each, dim=0)
    cond = cond_of_rows(base.conditioning, rows)
    makes = {
        f"{clip} {scale}": partial(_drawn, stage, base, model, cond, clip, scale)
        for clip in params.clip_samples
        for scale in params.guidance_scales
    }
    drawn = [images for (images,) in pieces(makes)]
    sizes = len(params.clip_samples), len(params.guidance_scales), len(params.captions), params.n_each
    return {
        "samples": torch.cat(drawn).reshape(*sizes, *model.img_shape),
        "tokens": tokens(params.captions),
        "guidance_scales": torch.tensor(params.guidance_scales),
        "clip_samples": torch.tensor([float(clip) for clip in params.clip_samples]),
    }


def _drawn(
    stage: StageRun, base: DiffusionModel, model: DiffusionModel, cond: Tensor, clip: bool | float, scale: float
) -> tuple[UInt8[Tensor, "n c h w"]]:
    params = stage.params
    options = {"sampler": params.sampler, "n_steps": params.n_steps, **params.options("sampler").model_dump()}
    stream = torch.Generator().manual_seed(derive_seed(stage.seed, "base"))
    low = sample(base, len(cond), generator=stream, cond=cond, guidance_scale=scale, clip_sample=clip, **options)
    images = enlarge(model, torch.as_tensor(low), params.level, stage.seed, clip_sample=True, **options)
    return (to_uint8(denormalize_img(images)),)
