"""The conditioning of a decoder, from a caption with a prior or from a picture with CLIP."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from ddpm.clip.embed import embed_images, space_of
from ddpm.clip.model import Clip
from ddpm.conditioning.kinds.clip_caption import ClipCaption
from ddpm.conditioning.kinds.embedding import Embedding
from ddpm.diffusion.model import DiffusionModel
from ddpm.sampling.prior import draw_embeddings


def cond_of_prior(
    decoder: DiffusionModel, prior: DiffusionModel, captions: Sequence[str], seed: int, **options: Any
) -> Float[Tensor, "n row"]:
    """The `cond` of captions: for each, an image embedding sampled by the prior, and the caption itself.

    Args:
        decoder: A network whose conditioning is `embedding`.
        prior: A network whose conditioning is `clip_caption`.
        captions: One per image.
        seed: Seed of the prior's noise.
        options: Further arguments of `sample`, for the prior.

    Raises:
        ValueError: A network has another conditioning, their CLIPs differ, or an option is not allowed.
        UserError: A caption is empty, too long or contradictory, or has an unknown word.
    """
    if not isinstance(prior.conditioning, ClipCaption):
        raise ValueError("the prior does not sample embeddings; its conditioning must be clip_caption")
    conditioning = _of_space(decoder, prior.conditioning.space, "the prior")
    rows = prior.conditioning.of_captions(captions)
    return conditioning.of_embeddings(draw_embeddings(prior, rows, seed=seed, **options), rows)


def cond_of_picture(
    decoder: DiffusionModel, clip: Clip, picture: UInt8[Tensor, "c h w"], n: int
) -> Float[Tensor, "n row"]:
    """The `cond` of n variations of a picture.

    Args:
        decoder: A network whose conditioning is `embedding`.
        clip: The CLIP whose embeddings the decoder was trained on.
        picture: An 8-bit picture of the size of the decoder's images.
        n: Number of variations.

    Raises:
        ValueError: The decoder takes no embeddings, or was trained with another CLIP.
    """
    conditioning = _of_space(decoder, space_of(clip), "CLIP")
    return conditioning.of_embeddings(embed_images(clip, picture[None])).repeat(n, 1)


def _of_space(decoder: DiffusionModel, space: Int64[Tensor, ""], name: str) -> Embedding:
    if not isinstance(decoder.conditioning, Embedding):
        raise ValueError("the model does not take embeddings; its conditioning must be embedding")
    if not torch.equal(decoder.conditioning.space.cpu(), space.cpu()):
        raise ValueError(f"the embeddings of {name} are not those that the model was trained with")
    return decoder.conditioning
