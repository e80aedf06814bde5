"""Captions: a text encoder, trained with the network. Its last vector is added to the timestep embedding.

The network attends to the vectors of all tokens, jointly with the pixels (GLIDE, Nichol et al. 2021, section 2.1) or by
cross-attention (latent diffusion, Rombach et al. 2022, section 3.3).
"""

from typing import Annotated, Literal

from annotated_types import Ge, Lt
from jaxtyping import Integer
from torch import Tensor, nn

from ddpm.conditioning.captioned import ReadsCaptions
from ddpm.conditioning.conditioning import CONDITIONINGS, Given
from ddpm.conditioning.text import TextEncoder, TextShape


class CaptionOptions(TextShape):
    """Options of `Caption`, besides the shape of its text encoder.

    Attributes:
        attention: How the network attends to the tokens: "joint" with the pixels, or by "cross"-attention.
        dropout: Probability of an empty caption in training, for guidance.
    """

    attention: Literal["joint", "cross"] = "joint"
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.2


class Caption(ReadsCaptions):
    """A caption, encoded by a text encoder that is trained with the network.

    Args:
        img_shape: Not used.
        n_classes: Number of classes that captions are drawn for.
        embedding_size: Length of the timestep embedding.
        width: Length of the encoder's vectors.
        layers: Number of transformer blocks of the encoder.
        heads: Number of attention heads of the encoder.
        dropout: Probability of an empty caption in training.
        attention: How the network attends to the tokens: "joint" with the pixels, or by "cross"-attention.
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
