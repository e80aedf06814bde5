"""The building blocks of the U-Net (Ho et al. 2020, appendix B)."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor, nn


def to_patches(images: Float[Tensor, "b c h w"], size: int) -> Float[Tensor, "b patch_channels rows columns"]:
    """Fold each patch of size x size pixels into channels, like `F.pixel_unshuffle`, but also in an empty batch."""
    b, c, h, w = images.shape
    # F.pixel_unshuffle returns an empty batch unchanged, hence the reshape.
    return F.pixel_unshuffle(images, size).reshape(b, c * size**2, h // size, w // size)


class StepEmbedding(nn.Module):
    """Sinusoidal timestep embedding, with wavelengths from 2 pi to 20,000 pi (Vaswani et al. 2017, section 3.5).

    Args:
        max_steps: T.
        channels: Length of the embedding, an even number. Sines come first, then cosines.
    """

    table: Float[Tensor, "steps c"]

    def __init__(self, max_steps: int, channels: int) -> None:
        super().__init__()
        half = torch.arange(channels // 2, dtype=torch.float64) / (channels // 2)
        angles = torch.outer(torch.arange(max_steps + 1, dtype=torch.float64), 10_000**-half)
        self.register_buffer("table", torch.cat((angles.sin(), angles.cos()), dim=1).float(), persistent=False)

    def forward(self, num_steps: Shaped[Tensor, "b"]) -> Float[Tensor, "b c"]:
        """Embed timesteps.

        Args:
            num_steps: Integers from 0 to T.

        Raises:
            IndexError: A timestep is out of range.
        """
        return F.embedding(num_steps.long(), self.table)


class GroupNorm(nn.GroupNorm):
    """GroupNorm in float32, even under autocast: on CPUs, GroupNorm and SiLU are several times slower in bf16."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return super().forward(x.float())


class ConvBlock(nn.Sequential):
    """3x3 convolution, GroupNorm, SiLU."""

    def __init__(self, channels_in: int, channels_out: int, groups: int) -> None:
        super().__init__(nn.Conv2d(channels_in, channels_out, 3, padding=1), GroupNorm(groups, channels_out), nn.SiLU())


class ResidualBlock(nn.Module):
    """Two ConvBlocks and a residual connection, with the timestep embedding and dropout between the blocks."""

    def __init__(
        self, channels_in: int, channels_out: int, step_channels: int, groups: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.block1 = ConvBlock(channels_in, channels_out, groups)
        self.step = nn.Sequential(nn.SiLU(), nn.Linear(step_channels, channels_out))
        self.dropout = nn.Dropout(dropout)
        self.block2 = ConvBlock(channels_out, channels_out, groups)
        self.skip = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Float[Tensor, "b c_in h w"], step: Float[Tensor, "b s"]) -> Float[Tensor, "b c_out h w"]:
        h = self.block1(x) + rearrange(self.step(step), "b c -> b c 1 1")
        return self.block2(self.dropout(h)) + self.skip(x)


def attention(
    q: Float[Tensor, "b heads n d"], k: Float[Tensor, "b heads m d"], v: Float[Tensor, "b heads m d"]
) -> Float[Tensor, "b heads n d"]:
    """softmax(q k^T / sqrt(d)) v (Vaswani et al. 2017, equation 1), in float32 on CPUs, where bf16 is slower."""
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float())


class AttentionBlock(nn.Module):
    """Multi-head self-attention over the pixels, with a one-group GroupNorm before it and a residual connection.

    Tokens either add their keys and values to those of the pixels (GLIDE, Nichol et al. 2021, section 2.1), or are
    attended to by a cross-attention layer that follows (latent diffusion, Rombach et al. 2022, section 3.3).
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = GroupNorm(1, channels)
        self.project_in = nn.Linear(channels, 3 * channels)
        self.project_out = nn.Linear(channels, channels)
        self.project_tokens: nn.Linear | None = None
        self.cross: CrossAttention | None = None

    def see_tokens(self, size: int, cross: bool = False) -> None:
        """Add the weights for tokens of length `size`, in a cross-attention layer or in the self-attention."""
        channels = self.project_out.in_features
        if cross:
            self.cross = CrossAttention(channels, size, self.heads)
        else:
            self.project_tokens = nn.Linear(size, 2 * channels)

    def forward(
        self, x: Float[Tensor, "b c h w"], tokens: Float[Tensor, "b n d"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        # A view, not a copy, if the memory format is channels_last.
        pixels = rearrange(self.norm(x), "b c h w -> b (h w) c")
        q, k, v = rearrange(self.project_in(pixels), "b n (qkv heads d) -> qkv b heads n d", qkv=3, heads=self.heads)
        if tokens is not None and self.project_tokens is not None:
            projected = self.project_tokens(tokens)
            seen = rearrange(projected, "b n (kv heads d) -> kv b heads n d", kv=2, heads=self.heads)
            k, v = (torch.cat((own, other), dim=2) for own, other in zip((k, v), seen, strict=True))
        attended = rearrange(attention(q, k, v), "b heads n d -> b n (heads d)")
        x = x + rearrange(self.project_out(attended), "b (h w) c -> b c h w", h=x.shape[2])
        return x if tokens is None or self.cross is None else self.cross(x, tokens)


class CrossAttention(nn.Module):
    """Cross-attention with queries from the pixels, keys and values from the tokens, and a residual connection."""

    def __init__(self, channels: int, token_size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = GroupNorm(1, channels)
        self.project_pixels = nn.Linear(channels, channels)
        self.project_tokens = nn.Linear(token_size, 2 * channels)
        self.project_out = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "b c h w"], tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b c h w"]:
        pixels = self.project_pixels(rearrange(self.norm(x), "b c h w -> b (h w) c"))
        q = rearrange(pixels, "b n (heads d) -> b heads n d", heads=self.heads)
        k, v = rearrange(self.project_tokens(tokens), "b n (kv heads d) -> kv b heads n d", kv=2, heads=self.heads)
        attended = rearrange(attention(q, k, v), "b heads n d -> b n (heads d)")
        return x + rearrange(self.project_out(attended), "b (h w) c -> b c h w", h=x.shape[2])


class Stack(nn.Module):
    """One level of the U-Net: two residual blocks and attention.

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        step_channels: Length of the timestep embedding.
        groups: Groups of each GroupNorm.
        heads: Attention heads, or None for no attention.
        dropout: Dropout rate of the residual blocks.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        step_channels: int,
        groups: int,
        heads: int | None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.residual1 = ResidualBlock(channels_in, channels_out, step_channels, groups, dropout)
        self.residual2 = ResidualBlock(channels_out, channels_out, step_channels, groups, dropout)
        self.attention = None if heads is None else AttentionBlock(channels_out, heads)

    def forward(
        self, x: Float[Tensor, "b c_in h w"], step: Float[Tensor, "b s"], tokens: Float[Tensor, "b n d"] | None = None
    ) -> Float[Tensor, "b c_out h w"]:
        h = self.residual2(self.residual1(x, step), step)
        return h if self.attention is None else self.attention(h, tokens)


class PixelHead(nn.Module):
    """The head of a U-Net that works on patches: convolutions at full resolution, on its feature maps and x_t.

    Without it, a network on 2x2 patches produces grid artefacts and noisy backgrounds, because the noise of each pixel
    has to pass through feature maps at a quarter of the pixels.

    Args:
        channels: Feature maps at full resolution.
        channels_in: Channels of x_t.
        channels_out: Channels of the prediction.
        step_channels: Length of the timestep embedding, which scales and shifts the maps (FiLM, Perez et al. 2018).
        n_convs: Number of 3x3 convolutions before the output convolution.
    """

    def __init__(self, channels: int, channels_in: int, channels_out: int, step_channels: int, n_convs: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels + channels_in, channels, 3, padding=1)
        self.step = nn.Sequential(nn.SiLU(), nn.Linear(step_channels, 2 * channels))
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(n_convs - 1))
        self.conv_out = nn.Conv2d(channels, channels_out, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "b c h w"], xt: Float[Tensor, "b c_in h w"], step: Float[Tensor, "b s"]
    ) -> Float[Tensor, "b c_out h w"]:
        scale, shift = rearrange(self.step(step), "b (two c) -> two b c 1 1", two=2)
        h = F.silu(self.conv_in(torch.cat((x, xt.to(x.dtype)), dim=1)) * (1 + scale) + shift)
        for conv in self.convs:
            h = F.silu(conv(h))
        return self.conv_out(h)
