"""Captions as encoded by CLIP: token vectors and text embedding (DALL-E 2, Ramesh et al. 2022, section 2.2).

This is the conditioning of a prior. It contains CLIP's frozen text encoder (`clip.embed.give_text`).
"""

from typing import Annotated

import torch
from annotated_types import Ge, Le, Lt
from jaxtyping import Float, Int64, Integer
from torch import Tensor, nn

from ddpm.conditioning.captioned import ReadsCaptions
from ddpm.conditioning.conditioning import CONDITIONINGS, Given
from ddpm.conditioning.sphere import on_sphere
from ddpm.conditioning.text import TextEncoder, TextShape


class ClipCaptionOptions(TextShape):
    """Options of `ClipCaption`. The shape of the text encoder must be that of CLIP's.

    Attributes:
        size: Dimension of the embeddings.
        dropout: Probability of an empty caption in training, for guidance.
    """

    size: Annotated[int, Ge(2), Le(1024)] = 64
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1


class ClipCaption(ReadsCaptions):
    """A caption, encoded by a frozen text encoder, with the text embedding as an additional token.

    Args:
        img_shape: Not used.
        n_classes: Number of classes that captions are drawn for.
        embedding_size: Length of the timestep embedding.
        size: Dimension of the embeddings.
        width: Length of the vectors of CLIP's text encoder.
        layers: Number of transformer blocks of the encoder.
        heads: Number of attention heads of the encoder.
        dropout: Probability of an empty caption in training.
    """

    Options = ClipCaptionOptions
    space: Int64[Tensor, ""]

    def __init__(
        self,
        img_shape: tuple[int, ...],  # noqa: ARG002
        n_classes: int,
        embedding_size: int,
        size: int,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__(n_classes, dropout)
        self.token_size = width
        self.register_buffer("space", torch.zeros((), dtype=torch.int64))  # see `clip.embed.space_of`
        self.encoder = TextEncoder(width, layers, heads).requires_grad_(False)
        self.project_text = nn.Linear(width, size).requires_grad_(False)
        self.norm, self.to_token = nn.LayerNorm(width), nn.Linear(size, width)
        self.project = nn.Linear(width, embedding_size)

    @torch.no_grad()
    def embed(self, rows: Integer[Tensor, "b length"]) -> Float[Tensor, "b size"]:
        """The text embeddings of captions, normalised by `on_sphere`."""
        return self._read(rows)[1]

    def forward(self, cond: Integer[Tensor, "b length"]) -> Given:
        with torch.no_grad():
            words, text = self._read(self.dropped(cond))
        token = self.to_token(text)
        return Given(embedding=self.project(token), tokens=torch.cat((self.norm(words), token[:, None]), dim=1))

    def _read(
        self, rows: Integer[Tensor, "b length"]
    ) -> tuple[Float[Tensor, "b length_plus_1 width"], Float[Tensor, "b size"]]:
        words = self.encoder(rows)
        return words, on_sphere(self.project_text(words[:, -1]).float())


CONDITIONINGS.register(__name__, ClipCaption)
