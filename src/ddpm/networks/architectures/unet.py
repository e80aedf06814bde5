"""The network of the paper: a U-Net with the timestep embedding in every block (Ho et al. 2020, appendix B)."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le, Len, Lt
from jaxtyping import Float, Shaped
from pydantic import Strict
from torch import Tensor, nn

from ddpm.conditioning.conditioning import build_conditioning, image_channels
from ddpm.conditioning.moves import MovesEmbedding
from ddpm.diffusion.model import DiffusionModel
from ddpm.networks.blocks import AttentionBlock, PixelHead, ResidualBlock, Stack, StepEmbedding, to_patches
from ddpm.networks.network import NETWORKS, check_config, options_of

MOST_CHANNELS = 2048  # a 3x3 convolution with this many has 38 million weights


@dataclass(frozen=True)
class UnetConfig:
    """Config of a `Unet`.

    Attributes:
        img_shape: (channels, height, width) of the images.
        channels: Feature maps after the first convolution.
        dim_mults: Channel multipliers, one per level. Each level has half the height and width of the previous one.
        groups: Groups of each GroupNorm, except in attention.
        max_steps: T.
        heads: Heads of each self-attention.
        patch_size: 2 folds each 2x2 patch of pixels into channels, so that the network works at half the resolution.
        max_attention_size: Attention only at levels of at most this height, and in the middle. None for every level.
        dropout: Dropout rate of the residual blocks (0.1 in the paper on CIFAR-10).
        first_skip: Whether the last block also gets the feature maps of the first level, as in the paper's network.
        learn_variance: Whether it also predicts the variance of p(x_{t-1} | x_t) (Nichol & Dhariwal 2021).
        head_channels: Feature maps of the `PixelHead`. 0 for no head, in which case the output convolution and a pixel
            shuffle give the prediction.
        head_convs: Number of 3x3 convolutions of the head before its output convolution.
        conditioning: "name" and options of its conditioning (`ddpm.conditioning`). None for an unconditional network.
        n_classes: Number of classes of the data set, for a conditioning that needs them.
        tell_moves: Whether it takes the flips and shifts of training images as input, so that samples have none.

    Raises:
        ValueError: Images are too small for the levels, groups or heads do not divide the channels, or a value is out
            of bounds.
    """

    img_shape: tuple[Annotated[int, Ge(1)], ...]
    channels: Annotated[int, Ge(1), Le(1024)] = 128
    dim_mults: Annotated[tuple[Annotated[int, Ge(1), Le(64)], ...], Strict(False), Len(1, 6)] = (1, 2, 4, 8)
    groups: Annotated[int, Ge(1), Le(1024)] = 4
    max_steps: Annotated[int, Ge(1)] = 1000
    heads: Annotated[int, Ge(1), Le(1024)] = 4
    patch_size: Annotated[int, Ge(1), Le(64)] = 1
    max_attention_size: Annotated[int, Ge(1), Le(1024)] | None = None
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    first_skip: bool = False
    learn_variance: bool = False
    head_channels: Annotated[int, Ge(0), Le(1024)] = 0
    head_convs: Annotated[int, Ge(1), Le(8)] = 2
    conditioning: Mapping[str, Any] | None = None
    n_classes: Annotated[int, Ge(0)] = 0
    tell_moves: bool = False

    @property
    def padding(self) -> tuple[int, int]:
        """Rows and columns to add so that height and width can be halved at each level."""
        _, height, width = self.img_shape
        multiple = self.patch_size * 2 ** (len(self.dim_mults) - 1)
        return -height % multiple, -width % multiple

    def __post_init__(self) -> None:
        """Raise ValueError for a network that cannot be built."""
        check_config(self)
        if len(self.img_shape) != 3:
            raise ValueError(f"img_shape is {self.img_shape}; it must be (channels, height, width)")
        height, width = (size + more for size, more in zip(self.img_shape[1:], self.padding, strict=True))
        multiple = self.patch_size * 2 ** (len(self.dim_mults) - 1)
        if height > 2 * self.img_shape[1] or width > 2 * self.img_shape[2]:
            raise ValueError(
                f"image size is {self.img_shape[1]}x{self.img_shape[2]}; patch_size {self.patch_size} and "
                f"{len(self.dim_mults)} dim_mults need heights and widths of at least {-(-multiple // 2)}"
            )
        for name, divisor in (("groups", self.groups), ("heads", self.heads), ("2 (sines and cosines)", 2)):
            if self.channels % divisor:
                raise ValueError(f"channels is {self.channels}; it must be a multiple of {name}, {divisor}")
        if self.groups == self.channels and height == width == multiple:
            raise ValueError(f"groups is {self.groups}; where maps end as 1x1, it must be below channels")
        if self.channels * max(self.dim_mults) > MOST_CHANNELS:
            raise ValueError(
                f"channels x dim_mults is {self.channels} x {max(self.dim_mults)}; at most {MOST_CHANNELS} are allowed"
            )


class Unet(DiffusionModel):
    """A U-Net: a `Stack` at each level of the encoder and decoder, skip connections between them, and a last block.

    Images whose size cannot be halved at each level are padded at the bottom and right, and the output is cropped.

    Args:
        config: Its config.

    Raises:
        ValueError: The conditioning cannot be built for these images.
    """

    Config, Options = UnetConfig, options_of(UnetConfig)

    def __init__(self, config: UnetConfig) -> None:
        super().__init__()
        self.config = config
        self.img_shape = tuple(config.img_shape)
        channels, groups, dropout = config.channels, config.groups, config.dropout
        step_channels = 4 * channels
        pixel_channels = config.img_shape[0] * config.patch_size**2
        seen_channels = image_channels(config.conditioning, self.img_shape) * config.patch_size**2
        height = config.img_shape[1] + config.padding[0]
        sizes = [height // config.patch_size // 2**level for level in range(len(config.dim_mults))]
        heads = [config.heads if size <= (config.max_attention_size or size) else None for size in sizes]
        widths = list(pairwise([channels, *(channels * mult for mult in config.dim_mults)]))

        self.conv_in = nn.Conv2d(pixel_channels + seen_channels, channels, 7, padding=3)
        self.step = nn.Sequential(
            StepEmbedding(config.max_steps, channels),
            nn.Linear(channels, step_channels),
            nn.GELU(),
            nn.Linear(step_channels, step_channels),
        )
        self.down = nn.ModuleList(
            Stack(*width, step_channels, groups, h, dropout) for width, h in zip(widths, heads, strict=True)
        )
        self.downsample = nn.ModuleList(nn.Conv2d(out, out, 4, stride=2, padding=1) for _, out in widths[:-1])
        lowest = widths[-1][1]
        self.middle1 = ResidualBlock(lowest, lowest, step_channels, groups, dropout)
        self.middle_attention = AttentionBlock(lowest, config.heads)
        self.middle2 = ResidualBlock(lowest, lowest, step_channels, groups, dropout)
        rising = [(below, out, h) for (below, out), h in zip(widths, heads, strict=True)][:0:-1]
        self.up = nn.ModuleList(Stack(2 * out, below, step_channels, groups, h, dropout) for below, out, h in rising)
        self.upsample = nn.ModuleList(nn.ConvTranspose2d(below, below, 4, 2, 1) for below, _, _ in rising)
        self.last = ResidualBlock((1 + config.first_skip) * widths[0][1], channels, step_channels, groups, dropout)
        predicted = (1 + config.learn_variance) * config.img_shape[0]
        self.conv_out = nn.Conv2d(channels, (config.head_channels or predicted) * config.patch_size**2, 1)
        self.head = None
        if config.head_channels:
            widths_out = config.head_channels, config.img_shape[0], predicted
            self.head = PixelHead(*widths_out, step_channels, config.head_convs)
        # Last, so that the initial values of the other weights do not depend on the conditioning.
        self.conditioning = build_conditioning(config.conditioning, self.img_shape, config.n_classes, step_channels)
        if self.conditioning is not None and self.conditioning.token_size:
            for block in [module for module in self.modules() if isinstance(module, AttentionBlock)]:
                block.see_tokens(self.conditioning.token_size, self.conditioning.cross_attention)
        self.takes_moves = config.tell_moves
        self.moves = MovesEmbedding(step_channels) if config.tell_moves else None

    def forward(
        self, images: Float[Tensor, "b c h w"], num_steps: Shaped[Tensor, "b"], *cond: Shaped[Tensor, "b *rest"]
    ) -> Float[Tensor, "b c h w"]:
        return self.with_variance(images, num_steps, *cond)[0]

    def with_variance(
        self,
        images: Float[Tensor, "b c h w"],
        num_steps: Shaped[Tensor, "b"],
        *cond: Shaped[Tensor, "b *rest"],
        moves: Float[Tensor, "b moves"] | None = None,
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"] | None]:
        """Predict `self.prediction`, and v for `reverse_variance`.

        Args:
            images: x_t.
            num_steps: t of each image, from 0 to T.
            cond: The conditioning of each image, if the network is conditional.
            moves: The flips and shifts of each image, as returned by `augmented`, or None for no augmentation.

        Returns:
            The prediction, and v of the same shape (None if the variance is not learned).

        Raises:
            ValueError: `cond` is missing for a conditional network, or given for an unconditional one.
        """
        step, xt, tokens = self.step(num_steps), images, None
        if len(cond) != (self.conditioning is not None):
            needed = "no cond" if self.conditioning is None else "a cond (see ddpm.conditioning)"
            raise ValueError(f"cond has {len(cond)} tensors; this network takes {needed}")
        if self.conditioning is not None:
            given = self.conditioning(*cond)
            step = step if given.embedding is None else step + given.embedding
            images = images if given.image is None else torch.cat((images, given.image), dim=1)
            tokens = given.tokens
        if self.moves is not None and moves is not None:
            step = step + self.moves(moves)
        if any(self.config.padding):
            images, xt = (F.pad(x, (0, self.config.padding[1], 0, self.config.padding[0])) for x in (images, xt))
        x = self.conv_in(to_patches(images, self.config.patch_size))
        skips = []
        for i, stack in enumerate(self.down):
            x = stack(x, step, tokens)
            skips.append(x)
            if i < len(self.downsample):
                x = self.downsample[i](x)
        x = self.middle2(self.middle_attention(self.middle1(x, step), tokens), step)
        for stack, upsample in zip(self.up, self.upsample, strict=True):
            x = upsample(stack(torch.cat((x, skips.pop()), dim=1), step, tokens))
        if self.config.first_skip:
            x = torch.cat((x, skips.pop()), dim=1)
        out = F.pixel_shuffle(self.conv_out(self.last(x, step)), self.config.patch_size)
        if self.head is not None:
            out = self.head(out, xt, step)
        out = out[..., : self.img_shape[1], : self.img_shape[2]]
        if not self.config.learn_variance:
            return out, None
        predicted, v = out.chunk(2, dim=1)
        return predicted, (v + 1) / 2  # as in improved-diffusion: about 1/2 before training


NETWORKS.register(__name__, Unet)
