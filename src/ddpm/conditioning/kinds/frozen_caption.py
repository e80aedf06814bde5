"""Captions, as a text encoder reads them that was trained before and stays as it is (Saharia et al. 2022, section 2.1).

The mean of its vectors is added to the step embedding, and the network's attention sees all of them, after a LayerNorm
that is learnt (appendix D.3.1). The encoder's weights are loaded before training (`training.masked_words`).
"""

import torch
from jaxtyping import Integer
from torch import Tensor, nn

from ddpm.conditioning.conditioning import CONDITIONINGS, Given
from ddpm.conditioning.kinds.caption import Caption


class FrozenCaption(Caption):
    """A `Caption` whose encoder does not learn."""

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
