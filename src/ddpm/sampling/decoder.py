"""Samples of a DALL-E 2 decoder: for captions, by guidance scale, and by the source of its image embedding."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le, Len
from jaxtyping import Float, Integer, Shaped, UInt8
from torch import Tensor

from ddpm.captions.grid import GuidanceScale
from ddpm.conditioning.kinds.embedding import Embedding
from ddpm.diffusion.model import DiffusionModel
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import derive_seed
from ddpm.run.stage import StageRun
from ddpm.sampling.given import Drawing, draw_film, draw_given

# The decoder's image embedding: sampled from the prior, replaced by the caption's text embedding, or left out.
Signal = Literal["prior", "text", "none"]
SIGNALS: tuple[Signal, ...] = "prior", "text", "none"


class SampleDecoder(Drawing):
    """Section `sample`. signal: the decoder's input besides captions. scales: guidance scales of the figure."""

    signal: Signal
    guidance_scale: GuidanceScale
    scales: Annotated[list[GuidanceScale], Len(1, 8)]


class SweepDecoder(Drawing):
    """Section `sweep`. signals: the decoder's inputs besides captions. scales: guidance scales, from low to high."""

    n_samples: Annotated[int, Ge(24), Le(5000)]
    signals: Annotated[list[Signal], Len(1, 3)]
    scales: Annotated[list[GuidanceScale], Len(2, 12)]
    n_halves: Annotated[int, Ge(2), Le(10_000)]


def cond_of(
    decoder: DiffusionModel, embeddings: Float[Tensor, "n size"], rows: Integer[Tensor, "n length"]
) -> Shaped[Tensor, "n row"]:
    """The `cond` of a decoder, or the captions if the network is conditioned on captions only.

    Args:
        decoder: A trained network.
        embeddings: Image embeddings, or text embeddings in their place, or zeros for none.
        rows: The token IDs of the captions.

    Raises:
        ValueError: The embeddings have another size.
    """
    if isinstance(decoder.conditioning, Embedding):
        return decoder.conditioning.of_embeddings(embeddings, rows)
    return rows


def draw_decoded(
    stage: StageRun, decoder: DiffusionModel, prompts: Mapping[str, Tensor], figures: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Draw the samples specified by `stage.params`, a `SampleDecoder`, as 8-bit images.

    Args:
        stage: Stage sample. Finished batches of an interrupted run are not drawn again.
        decoder: A trained decoder.
        prompts: The first dict of `draw_signals`.
        figures: The second dict of `draw_signals`, with tensors of shape (captions, n_each, ...).

    Returns:
        samples: for the prompts. by_scale: (captions, scales, n_each, c, h, w). by_signal: the same, by SIGNALS. All
        scales have the same noise, and so do all signals. scales: the guidance scales. filmed: the figures' captions.
        steps, estimates, num_steps: `draw_film` of these. tokens, seen, images: of the prompts.
    """
    params, pieces = stage.params, Pieces(stage.resume)
    shown, sizes = {name: rows.flatten(0, 1) for name, rows in figures.items()}, figures["tokens"].shape[:2]

    def drawn(found: Mapping[str, Tensor], signal: Signal, scale: float, name: str) -> UInt8[Tensor, "n c h w"]:
        cond, seed = cond_of(decoder, found[signal], found["tokens"]), derive_seed(stage.seed, name)
        group = pieces.within(f"{name} {signal} {scale:g}")
        return draw_given(decoder, cond, scale, params, seed, stage.compute, group)

    def table(columns: list[Tensor]) -> UInt8[Tensor, "captions columns n_each c h w"]:
        return torch.stack([images.unflatten(0, sizes) for images in columns], dim=1)

    scales = [drawn(shown, params.signal, scale, "scales") for scale in params.scales]
    signals = [drawn(shown, signal, params.guidance_scale, "signals") for signal in SIGNALS]
    signal, filmed = figures[params.signal][:, 0], figures["tokens"][:, 0]
    own = params, derive_seed(stage.seed, "film"), stage.compute, pieces.within("film")
    film = draw_film(decoder, cond_of(decoder, signal, filmed), params.guidance_scale, *own)
    return {
        "samples": drawn(prompts, params.signal, params.guidance_scale, "prompts"),
        "by_scale": table(scales),
        "by_signal": table(signals),
        "scales": torch.tensor(params.scales),
        **film,
        "filmed": filmed,
        **{name: prompts[name] for name in ("tokens", "seen", "images")},
    }


def draw_scales(
    stage: StageRun, decoder: DiffusionModel, prompts: Mapping[str, Tensor]
) -> Iterator[tuple[Signal, float, UInt8[Tensor, "n c h w"]]]:
    """Yield (signal, scale, samples) for each signal and guidance scale of `stage.params`, a `SweepDecoder`.

    Args:
        stage: Stage sweep.
        decoder: A trained decoder.
        prompts: The first dict of `draw_signals`. Its first `n_samples` rows are used.
    """
    params, pieces = stage.params, Pieces(stage.resume)
    for signal in params.signals:
        cond = cond_of(decoder, prompts[signal], prompts["tokens"])[: params.n_samples]
        for scale in params.scales:
            group = pieces.within(f"{signal} {scale:g}")
            yield signal, scale, draw_given(decoder, cond, scale, params, stage.seed, stage.compute, group)
