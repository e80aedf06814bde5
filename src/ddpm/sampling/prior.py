"""Sampling of image embeddings for captions from a prior (DALL-E 2, Ramesh et al. 2022, section 2.2)."""

from functools import partial
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le, Len
from einops import rearrange
from jaxtyping import Float, Integer
from torch import Tensor

from ddpm.captions.grid import CaptionText, GuidanceScale
from ddpm.captions.prompts import Prompts
from ddpm.captions.vocabulary import tokens
from ddpm.conditioning.kinds.clip_caption import ClipCaption
from ddpm.conditioning.sphere import on_sphere
from ddpm.diffusion.model import DiffusionModel
from ddpm.run.resume.pieces import Piece, Pieces
from ddpm.run.seeding import derive_seed
from ddpm.run.stage import StageRun
from ddpm.sampling.given import Drawing
from ddpm.sampling.sample import sample

STRIP = 8  # height of a vector's preview image


class SamplePrior(Drawing):
    """Section `sample_prior`.

    n_seen, n_withheld: number of captions of held-out images without and with a withheld pair. captions: captions of
    the figures, with n_each samples each. n_candidates: embeddings drawn per caption, of which the best is kept.
    """

    n_seen: Annotated[int, Ge(1), Le(5000)]
    n_withheld: Annotated[int, Ge(1), Le(5000)]
    captions: Annotated[list[CaptionText], Len(1, 16)]
    n_each: Annotated[int, Ge(1), Le(12)]
    n_candidates: Annotated[int, Ge(1), Le(64)]
    guidance_scale: GuidanceScale


def best(candidates: Float[Tensor, "n k size"], text: Float[Tensor, "n size"]) -> Float[Tensor, "n size"]:
    """For each caption, the candidate with the highest dot product with the text embedding."""
    chosen = torch.einsum("nks,ns->nk", candidates, text).argmax(1)
    return candidates[torch.arange(len(candidates)), chosen]


def draw_embeddings(
    prior: DiffusionModel,
    rows: Integer[Tensor, "n length"],
    n_candidates: int = 2,
    guidance_scale: float = 1.0,
    seed: int = 0,
    **options: Any,
) -> Float[Tensor, "n size"]:
    """Draw an image embedding for each caption, normalised by `on_sphere`.

    Args:
        prior: A network whose conditioning is `clip_caption`.
        rows: The token IDs of the captions.
        n_candidates: Embeddings drawn per caption, of which the best is kept.
        guidance_scale: Scale of classifier-free guidance, or 1 for none.
        seed: Seed of the noise.
        options: Further arguments of `sample`.

    Raises:
        ValueError: The network is not a prior, or an option is not allowed.
    """
    if not isinstance(prior.conditioning, ClipCaption):
        raise ValueError("this model does not sample embeddings; train one with conditioning clip_caption")
    stream = torch.Generator().manual_seed(derive_seed(seed, "prior"))
    said = rows.repeat_interleave(n_candidates, dim=0)
    chosen = {"generator": stream, "cond": said, "guidance_scale": guidance_scale, **options}
    drawn = torch.as_tensor(sample(prior, len(said), **chosen)).cpu()
    candidates = rearrange(drawn, "(n k) size 1 1 -> n k size", k=n_candidates)
    return on_sphere(best(candidates, prior.conditioning.embed(rows).cpu()))


def draw_signals(stage: StageRun, prior: DiffusionModel, prompts: Prompts) -> tuple[dict[str, Tensor], ...]:
    """The decoder's inputs for each caption of the prompts and of the figures.

    Args:
        stage: Stage sample_prior.
        prior: A trained prior.
        prompts: n_seen + n_withheld captions.

    Returns:
        Two dicts with tokens, prior (sampled image embeddings), text (text embeddings) and none (zeros). The first is
        for the prompts, and also has the fields of `prompts`. The second is for the figures, with tensors of shape
        (captions, n_each, ...).
    """
    params = stage.params
    keys = "sampler", "n_steps", "spacing", "clip_sample", "batch_size", "n_candidates", "guidance_scale"
    how = {key: getattr(params, key) for key in keys} | params.options("sampler").model_dump()
    figures = tokens(params.captions).repeat_interleave(params.n_each, dim=0)
    groups = {"prompts": prompts.tokens, "figures": figures}

    def drawn(name: str) -> Piece:
        return (draw_embeddings(prior, groups[name], seed=derive_seed(stage.seed, name), **how),)

    found = Pieces(stage.resume)({name: partial(drawn, name) for name in groups})
    signals = []
    for rows, (embeddings,) in zip(groups.values(), found, strict=True):
        text = prior.conditioning.embed(rows).cpu()
        signals.append({"tokens": rows, "prior": embeddings, "text": text, "none": torch.zeros_like(text)})
    of_prompts, of_figures = signals
    by_caption = {name: values.unflatten(0, (-1, params.n_each)) for name, values in of_figures.items()}
    return of_prompts | prompts._asdict(), by_caption


def as_strips(vectors: Float[Tensor, "n size 1 1"]) -> Float[Tensor, "n 1 height size"]:
    """Vectors as preview images, one column per component: 0 is grey, -3 and below black, 3 and above white."""
    return rearrange(vectors / 3, "n size 1 1 -> n 1 1 size").expand(-1, -1, STRIP, -1)
