"""Captions, encoded by a pretrained, frozen text encoder (Saharia et al. 2022, section 2.1).

Its vectors pass through a learnt LayerNorm. Their mean is added to the timestep embedding, and the network attends to
all of them (appendix D.3.1). The encoder's weights are loaded before training (`training.masked_words`).
"""

import torch
from jaxtyping import Integer
from torch import Tensor, nn

from ddpm.conditioning.conditioning import CONDITIONINGS, Given
from ddpm.conditioning.kinds.caption import Caption


class FrozenCaption(Caption):
    """A `Caption` with a frozen encoder."""

    def __init__(
        self,
        img_shape: tuple[int, ...],
        n_classes: int,
        embedding_size: int,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
        attention: str = "joint",
    ) -> None:
        super().__init__(img_shape, n_classes, embedding_size, width, layers, heads, dropout, attention)
        self.encoder.requires_grad_(False)
        self.norm = nn.LayerNorm(width)

    def forward(self, cond: Integer[Tensor, "b length"]) -> Given:
        with torch.no_grad():
            vectors = self.encoder(self.dropped(cond))
        vectors = self.norm(vectors)
        return Given(embedding=self.project(vectors.mean(1)), tokens=vectors)


CONDITIONINGS.register(__name__, FrozenCaption)
