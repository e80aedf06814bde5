"""Stage sweep of door glide: samples from the same captions and noise with two kinds of guidance, at several scales."""

from collections.abc import Callable, Iterator
from typing import Annotated

from annotated_types import Ge, Le, Len
from jaxtyping import Integer, UInt8
from torch import Tensor

from ddpm.captions.grid import GuidanceScale
from ddpm.conditioning.steering import LogLikelihood, Steered
from ddpm.diffusion.model import DiffusionModel
from ddpm.run.resume.pieces import Pieces
from ddpm.run.stage import StageRun
from ddpm.sampling.given import Drawing, draw_given


class Sweep(Drawing):
    """Section `sweep`. scales: scales of classifier-free guidance. clip_scales: of CLIP guidance, or 0 for none."""

    n_samples: Annotated[int, Ge(24), Le(5000)]
    scales: Annotated[list[GuidanceScale], Len(1, 12)]
    clip_scales: Annotated[list[Annotated[float, Ge(0), Le(1000)]], Len(1, 12)]
    n_halves: Annotated[int, Ge(2), Le(10_000)]


def draw_sweep(
    stage: StageRun,
    model: DiffusionModel,
    likelihood: Callable[[Tensor], LogLikelihood],
    rows: Integer[Tensor, "n length"],
) -> Iterator[tuple[str, float, UInt8[Tensor, "n c h w"]]]:
    """Yield (method, scale, samples) for each scale of classifier-free guidance and of CLIP guidance.

    With CLIP guidance, the network is also conditioned on the caption, at a classifier-free guidance scale of 1.

    Args:
        stage: A stage with a section `Sweep`.
        model: A trained text-conditional network.
        likelihood: Maps the captions of a batch to their log-likelihood, such as `Clip.likelihood`.
        rows: The token IDs of the captions.
    """
    params, pieces = stage.params, Pieces(stage.resume)
    how = params, stage.seed, stage.compute
    for scale in params.scales:
        yield "classifier-free", scale, draw_given(model, rows, scale, *how, pieces.within(f"free {scale:g}"))
    for scale in params.clip_scales:

        def steer(network: DiffusionModel, cond: Tensor, scale: float = scale) -> DiffusionModel:
            return Steered(network, likelihood(cond), scale)

        yield "CLIP", scale, draw_given(model, rows, 1.0, *how, pieces.within(f"clip {scale:g}"), steer)
