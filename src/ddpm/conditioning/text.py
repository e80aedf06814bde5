"""A small transformer that encodes captions (GLIDE, Nichol et al. 2021, section 2.1)."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from einops import rearrange
from jaxtyping import Float, Integer
from pydantic import model_validator
from torch import Tensor, nn

from ddpm.captions.vocabulary import LENGTH, SIZE
from ddpm.run.params import Section


class TextShape(Section):
    """Options of a `TextEncoder`.

    Attributes:
        width: Length of its vectors.
        layers: Number of transformer blocks.
        heads: Number of attention heads.
    """

    width: Annotated[int, Ge(1), Le(1024)] = 64
    layers: Annotated[int, Ge(1), Le(24)] = 2
    heads: Annotated[int, Ge(1), Le(64)] = 4

    @model_validator(mode="after")
    def _heads_divide(self) -> "TextShape":
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}; it must be a multiple of heads, {self.heads}")
        return self


class TextBlock(nn.Module):
    """A pre-LayerNorm transformer block: self-attention and an MLP, each with a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project_in, self.project_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        projected = self.project_in(self.norm1(x))
        q, k, v = rearrange(projected, "b n (qkv heads d) -> qkv b heads n d", qkv=3, heads=self.heads)
        attended = F.scaled_dot_product_attention(q, k, v)
        x = x + self.project_out(rearrange(attended, "b heads n d -> b n (heads d)"))
        return x + self.mlp(self.norm2(x))


class TextEncoder(nn.Module):
    """A transformer that maps token IDs to one vector per token, and a last one for the whole caption.

    Padding is not masked, so that the empty caption is valid.

    Args:
        width: Length of the vectors, a multiple of `heads`.
        layers: Number of transformer blocks.
        heads: Number of heads of each self-attention.
    """

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.words = nn.Embedding(SIZE + 1, width)  # the last one marks the end of each caption
        self.positions = nn.Parameter(torch.randn(LENGTH + 1, width) / width**0.5)
        self.blocks = nn.Sequential(*(TextBlock(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)

    def forward(self, rows: Integer[Tensor, "b length"]) -> Float[Tensor, "b length_plus_1 d"]:
        """Encode rows of `captions.vocabulary.tokens`.

        Raises:
            IndexError: A token ID is invalid.
        """
        if len(rows) and rows.max() >= SIZE:
            raise IndexError(f"token {rows.max()} is not a word; allowed: 0 to {SIZE - 1}")
        ended = F.pad(rows.long(), (0, 1), value=SIZE).to(self.positions.device)
        return self.norm(self.blocks(self.words(ended) + self.positions))
