"""Stage sample of a text-conditional door: samples for the captions of held-out images and of the figure."""

from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from ddpm.captions.grid import Grid, GuidanceScale
from ddpm.captions.prompts import Prompts
from ddpm.captions.vocabulary import tokens
from ddpm.diffusion.model import DiffusionModel
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import derive_seed
from ddpm.run.stage import StageRun
from ddpm.sampling.given import Drawing, draw_film, draw_given


class SampleCaptions(Drawing):
    """Section `sample` of a text-conditional door.

    n_seen, n_withheld: number of captions of held-out images without and with a withheld pair. guidance_scale: for
    both. grid: captions and guidance scales of the figure.
    """

    n_seen: Annotated[int, Ge(1), Le(5000)]
    n_withheld: Annotated[int, Ge(1), Le(5000)]
    guidance_scale: GuidanceScale
    grid: Grid


def draw_prompts(stage: StageRun, model: DiffusionModel, prompts: Prompts) -> dict[str, Tensor]:
    """Draw samples as specified by `stage.params`, as 8-bit images.

    Args:
        stage: A stage with a section `SampleCaptions`. Finished batches of an interrupted run are not drawn again.
        model: A trained text-conditional network.
        prompts: n_seen + n_withheld captions.

    Returns:
        samples: (n, c, h, w), for the prompts. grid: (captions, scales, n, c, h, w), for `params.grid`, with the same
        noise at each scale. tokens, seen, images: of the prompts. filmed: the grid's captions. steps, estimates,
        num_steps: `draw_film` of these.
    """
    params, pieces = stage.params, Pieces(stage.resume)
    own = params, stage.seed, stage.compute, pieces.within("prompts")
    samples = draw_given(model, prompts.tokens, params.guidance_scale, *own)
    grid, rows = params.grid, []
    for i, caption in enumerate(grid.captions):
        cond, seed = tokens([caption] * grid.n), derive_seed(stage.seed, "grid", i)
        drawn = [
            draw_given(model, cond, scale, params, seed, stage.compute, pieces.within(f"grid {i} {scale:g}"))
            for scale in grid.scales
        ]
        rows.append(torch.stack(drawn))
    filmed = tokens(grid.captions)
    own = params, derive_seed(stage.seed, "film"), stage.compute, pieces.within("film")
    film = draw_film(model, filmed, params.guidance_scale, *own) | {"filmed": filmed}
    return {"samples": samples, "grid": torch.stack(rows), **film, **prompts._asdict()}
