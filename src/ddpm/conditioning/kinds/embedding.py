"""An image embedding and a caption, the conditioning of a decoder (DALL-E 2, Ramesh et al. 2022, section 2.1).

The embedding is projected and added to the timestep embedding. It is also projected to four tokens, which are
concatenated with the caption's token vectors.
"""

from collections.abc import Iterable, Sequence
from math import sqrt
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le, Lt
from einops import rearrange
from jaxtyping import Float, Int64, Integer, Shaped
from torch import Tensor, nn

from ddpm.captions.vocabulary import LENGTH, SIZE
from ddpm.conditioning.conditioning import CONDITIONINGS, Given
from ddpm.conditioning.kinds.caption import Caption, CaptionOptions
from ddpm.conditioning.sphere import slerp

TOKENS = 4  # number of tokens that an embedding is projected to, as in the paper
TOLERANCE = 1e-3  # relative tolerance of an embedding's length, in float32


class EmbeddingOptions(CaptionOptions):
    """Options of `Embedding`, besides those of its text encoder.

    Attributes:
        size: Dimension of the embeddings.
        dropout: Probability of dropping the embedding in training, for guidance.
        caption_dropout: Probability of independently dropping the caption. It must be above 0, since variations have no
            caption.
    """

    size: Annotated[int, Ge(2), Le(1024)] = 64
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1
    caption_dropout: Annotated[float, Gt(0), Le(1)] = 0.5


class Embedding(Caption):
    """`cond` is an image embedding, normalised by `on_sphere` or zero for none, followed by the caption's token IDs.

    Args:
        size: Dimension of the embeddings.
        embedding_size: Length of the timestep embedding.
        width: Length of the text encoder's vectors, and of the tokens.
        dropout: Probability of dropping the embedding in training.
        caption_dropout: Probability of dropping the caption in training.
        more: Further arguments of `Caption`.
    """

    Options = EmbeddingOptions
    describes = "given an image embedding or a caption"
    space: Int64[Tensor, ""]

    def __init__(
        self,
        size: int,
        embedding_size: int,
        width: int,
        dropout: float,
        caption_dropout: float,
        **more: Any,
    ) -> None:
        both = dropout * caption_dropout  # probability of dropping both, as guidance requires
        super().__init__(embedding_size=embedding_size, width=width, dropout=both, **more)
        self.size, self.shares = size, (dropout, caption_dropout)
        self.register_buffer("space", torch.zeros((), dtype=torch.int64))  # see `clip.embed.space_of`
        self.project_embedding = nn.Linear(size, embedding_size)
        self.to_tokens = nn.Linear(size, TOKENS * width)

    def of_embeddings(
        self, embeddings: Float[Tensor, "n any"], rows: Integer[Tensor, "n length"] | None = None
    ) -> Float[Tensor, "n row"]:
        """The `cond` of new images with these embeddings.

        Args:
            embeddings: Image embeddings, or text embeddings in their place, normalised by `on_sphere`. Zeros mean none.
            rows: The token IDs of their captions, or None for empty captions.

        Raises:
            ValueError: The embeddings have the wrong size.
        """
        if embeddings.shape[1] != self.size:
            raise ValueError(f"embeddings have {embeddings.shape[1]} numbers; this model takes {self.size}")
        rows = torch.zeros(len(embeddings), LENGTH) if rows is None else rows
        return torch.cat((embeddings, rows.to(embeddings)), dim=1)

    def check(self, cond: Float[Tensor, "n row"]) -> None:
        """Raise ValueError for an invalid token ID or an embedding that is not normalised by `on_sphere`."""
        embeddings, rows = self._parts(cond)
        lengths, radius = embeddings.norm(dim=1), sqrt(self.size)
        if not (torch.minimum(lengths, (lengths - radius).abs()) <= TOLERANCE * radius).all():
            low, high = lengths.min().item(), lengths.max().item()
            raise ValueError(f"cond has embeddings of length {low:g} to {high:g}; allowed: 0 (none) and {radius:g}")
        if (rows != cond[:, self.size :]).any():
            raise ValueError(f"cond has words that are not whole numbers; allowed: word numbers 0 to {SIZE - 1}")
        super().check(rows)

    def encode(self, images: Float[Tensor, "n c h w"], labels: Shaped[Tensor, "n"] | None) -> Float[Tensor, "n row"]:
        """The images' captions, without embeddings, which only CLIP can compute."""
        return self._without_embedding(super().encode(images, labels))

    def draw(self, seed: int, indices: Iterable[int]) -> Float[Tensor, "n row"]:
        """As in `Caption`, without an embedding."""
        return self._without_embedding(super().draw(seed, indices))

    def of_labels(self, labels: Shaped[Tensor, " n"]) -> Float[Tensor, "n row"]:
        """As in `Caption`, without an embedding."""
        return self._without_embedding(super().of_labels(labels))

    def of_captions(self, captions: Sequence[str]) -> Float[Tensor, "n row"]:
        """As in `Caption`, without an embedding."""
        return self._without_embedding(super().of_captions(captions))

    def labels(self, cond: Float[Tensor, "n row"]) -> Int64[Tensor, "n"]:
        return super().labels(self._parts(cond)[1])

    def null(self, cond: Float[Tensor, "b row"]) -> Float[Tensor, "b row"]:
        """No embedding and no caption: zeros, since padding is 0."""
        return torch.zeros_like(cond)

    def mix(
        self, first: Float[Tensor, "1 row"], second: Float[Tensor, "1 row"], weights: Float[Tensor, "n"]
    ) -> Float[Tensor, "n row"]:
        """Embeddings on the arc between the two, with the caption of the image with the larger weight."""
        (start, words), (end, other_words) = self._parts(first), self._parts(second)
        return self.of_embeddings(slerp(start, end, weights), super().mix(words, other_words, weights))

    def dropped(self, cond: Float[Tensor, "b row"]) -> Float[Tensor, "b row"]:
        """`cond` with embedding and caption dropped independently, or unchanged in eval mode."""
        if not self.training:
            return cond
        embeddings, rows = self._parts(cond)
        kept = (torch.rand(len(cond), 2) >= torch.tensor(self.shares)).to(cond.device)  # on the CPU, as in the parent
        return self.of_embeddings(embeddings * kept[:, :1], rows * kept[:, 1:])

    def forward(self, cond: Float[Tensor, "b row"]) -> Given:
        embeddings, rows = self._parts(self.dropped(cond))
        embeddings, words = embeddings.to(self.to_tokens.weight), self.encoder(rows)
        tokens = rearrange(self.to_tokens(embeddings), "b (n d) -> b n d", n=TOKENS)
        step = self.project(words[:, -1]) + self.project_embedding(embeddings)
        return Given(embedding=step, tokens=torch.cat((tokens, words), dim=1))

    def _parts(self, cond: Float[Tensor, "b row"]) -> tuple[Float[Tensor, "b size"], Int64[Tensor, "b length"]]:
        return cond[:, : self.size], cond[:, self.size :].long()

    def _without_embedding(self, rows: Integer[Tensor, "n length"]) -> Float[Tensor, "n row"]:
        return self.of_embeddings(torch.zeros(len(rows), self.size), rows)


CONDITIONINGS.register(__name__, Embedding)
