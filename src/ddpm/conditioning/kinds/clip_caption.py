"""Captions as CLIP reads them: its words' vectors, and its text embedding (DALL-E 2, Ramesh et al. 2022, section 2.2).

What a prior is given. CLIP's text encoder is part of it, and stays as it is (`clip.embed.give_text`).
"""

from typing import Annotated, Any

import torch
from annotated_types import Ge, Le, Lt
from jaxtyping import Float, Int64, Integer
from torch import Tensor, nn

from ddpm.conditioning.conditioning import CONDITIONINGS, Given
from ddpm.conditioning.kinds.caption import CaptionOptions
from ddpm.conditioning.kinds.frozen_caption import FrozenCaption
from ddpm.conditioning.sphere import on_sphere


class ClipCaptionOptions(CaptionOptions):
    """size: numbers in an embedding. width, layers and heads as CLIP's."""

    size: Annotated[int, Ge(2), Le(1024)] = 64
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1


class ClipCaption(FrozenCaption):
    """A `FrozenCaption` that gives the text embedding as one more token.

    Args:
        size: Numbers in an embedding.
        width: Length of the vectors of CLIP's text encoder.
        more: Of `Caption`.
    """

    Options = ClipCaptionOptions
    space: Int64[Tensor, ""]

    def __init__(self, size: int, width: int, **more: Any) -> None:
        super().__init__(width=width, **more)
        self.register_buffer("space", torch.zeros((), dtype=torch.int64))  # `clip.embed.space_of`
        self.project_text = nn.Linear(width, size).requires_grad_(False)
        self.to_token = nn.Linear(size, width)

    @torch.no_grad()
    def embed(self, rows: Integer[Tensor, "b length"]) -> Float[Tensor, "b size"]:
        """The text embeddings of captions, as of `on_sphere`."""
        return on_sphere(self.project_text(self.encoder(rows)[:, -1]).float())

    def forward(self, cond: Integer[Tensor, "b length"]) -> Given:
        rows = self.dropped(cond)
        with torch.no_grad():
            words = self.encoder(rows)
        token = self.to_token(self.embed(rows))
        return Given(embedding=self.project(token), tokens=torch.cat((self.norm(words), token[:, None]), dim=1))


CONDITIONINGS.register(__name__, ClipCaption)
