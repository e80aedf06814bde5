"""Captions: a text encoder, trained with the network, whose last vector is added to the step embedding.

The network's attention sees the vectors of all words, beside the pixels (GLIDE, Nichol et al. 2021, section 2.1) or in
a cross-attention of its own (latent diffusion, Rombach et al. 2022, section 3.3).
"""

from typing import Annotated, Literal

from annotated_types import Ge, Lt
from jaxtyping import Integer
from torch import Tensor, nn

from ddpm.conditioning.captioned import ReadsCaptions
from ddpm.conditioning.conditioning import CONDITIONINGS, Given
from ddpm.conditioning.text import TextEncoder, TextShape


class CaptionOptions(TextShape):
    """attention: of the words, "joint" with the pixels' or "cross"; dropout: share of the captions that are emptied."""

    attention: Literal["joint", "cross"] = "joint"
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.2


class Caption(ReadsCaptions):
    """A caption as a text encoder reads it that learns with the network.

    Args:
        img_shape: Not used.
        n_classes: Classes that captions are drawn of.
        embedding_size: Length of the step embedding.
        width: Length of the encoder's vectors.
        layers: Its transformer blocks.
        heads: Of its attention.
        dropout: Share of the captions that are emptied.
        attention: "joint" or "cross".
    """

    Options = CaptionOptions

    def __init__(
        self,
        img_shape: tuple[int, ...],  # noqa: ARG002
        n_classes: int,
        embedding_size: int,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
        attention: str = "joint",
    ) -> None:
        super().__init__(n_classes, dropout)
        self.token_size, self.cross_attention = width, attention == "cross"
        self.encoder = TextEncoder(width, layers, heads)
        self.project = nn.Linear(width, embedding_size)

    def forward(self, cond: Integer[Tensor, "b length"]) -> Given:
        vectors = self.encoder(self.dropped(cond))
        return Given(embedding=self.project(vectors[:, -1]), tokens=vectors)


CONDITIONINGS.register(__name__, Caption)
