"""Stage inpaint of door glide: held-out images with holes, inpainted by two methods."""

from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Bool, Float, Integer, UInt8
from torch import Tensor

from ddpm.captions.grid import GuidanceScale
from ddpm.diffusion.model import DiffusionModel
from ddpm.images import denormalize_img, to_uint8
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import generator
from ddpm.run.stage import StageRun
from ddpm.sampling.given import Drawing, draw_given
from ddpm.sampling.inpaint import inpaint


class Fill(Drawing):
    """Section `inpaint`. sampler and n_steps are for the network that was trained to inpaint.

    n_samples: number of held-out images. replace_steps, n_resamples: steps and resamplings of RePaint. n_halves:
    half-samples per confidence interval.
    """

    n_samples: Annotated[int, Ge(2), Le(5000)]
    guidance_scale: GuidanceScale
    replace_steps: Annotated[int, Ge(1), Le(10_000)]
    n_resamples: Annotated[int, Ge(1), Le(100)]
    n_halves: Annotated[int, Ge(2), Le(10_000)]


def fill_by_training(
    stage: StageRun,
    model: DiffusionModel,
    x0: Float[Tensor, "n c h w"],
    holes: Bool[Tensor, "n 1 h w"],
    rows: Integer[Tensor, "n length"],
) -> UInt8[Tensor, "n c h w"]:
    """Inpaint with a network that was trained for it. Known pixels are kept.

    Args:
        stage: A stage with a section `Fill`.
        model: The network.
        x0: Images in [-1, 1].
        holes: True where pixels are missing.
        rows: The token IDs of the captions.
    """
    images, params = to_uint8(denormalize_img(x0)), stage.params
    cond = model.conditioning.around(rows, images, holes)
    pieces = Pieces(stage.resume)
    drawn = draw_given(model, cond, params.guidance_scale, params, stage.seed, stage.compute, pieces)
    return torch.where(holes, drawn, images)


def fill_by_replacing(
    stage: StageRun,
    model: DiffusionModel,
    x0: Float[Tensor, "n c h w"],
    holes: Bool[Tensor, "n 1 h w"],
    rows: Integer[Tensor, "n length"],
) -> UInt8[Tensor, "n c h w"]:
    """Inpaint by RePaint with a network that was not trained for it. Arguments are as for `fill_by_training`."""
    params, device = stage.params, stage.compute.device
    found = inpaint(
        model,
        x0.to(device),
        holes,
        generator(stage.seed, "replace"),
        n_resamples=params.n_resamples,
        n_steps=params.replace_steps,
        cond=rows,
        guidance_scale=params.guidance_scale,
        clip_sample=params.clip_sample,
        batch_size=params.batch_size,
    )
    return to_uint8(denormalize_img(found)).cpu()
