"""The network of the paper: a U-Net that is told how noisy its input is (Ho et al. 2020, appendix B)."""

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ddpm.networks.model import DiffusionModel
from ddpm.networks.blocks import AttentionBlock, ResidualBlock, Stack, StepEmbedding, withheld
from ddpm.conditioning.kinds.clusters import Clusters
from ddpm.sections import FASHION_MNIST_CLASSES, TrainUnet


@dataclass(frozen=True)
class UnetConfig:
    """Shape of a `Unet`; the defaults are the course's.

    image_shape: (channels, height, width) of the images.
    channels: feature maps after the first convolution; dim_mults: by what they are multiplied at each level, the
    size of the maps being halved from each level to the next.
    groups: of every GroupNorm but the attention's; heads: of every self-attention.
    max_steps: T, the highest step that it can be told.
    patch_size: 2 folds squares of 2x2 pixels into channels, so that the network works at half the size.
    max_attention_size: attention only where the maps are at most this high; None for every level.
    dropout: share of every residual block's inner features that training drops (the paper's CIFAR-10 has 0.1).
    first_skip: the last block sees the first level's maps too, at full resolution, as in the paper's network; in the
    course's, what the image looks like in detail comes through the lower levels only.
    learn_variance: say the variance of p(x_{t-1} | x_t) too, in as many channels again (Nichol & Dhariwal 2021).
    n_classes: classes of which it is told one an image, each a learnt vector beside the step's; None for no labels.
    clustered: the classes are clusters of like images, which the network keeps; it is shown the mean of the image's
    cluster beside x_t.
    label_dropout: share of the images that training tells nothing of, for guidance.
    """

    image_shape: tuple[int, ...]
    channels: int = 128
    dim_mults: tuple[int, ...] = (1, 2, 4, 8)
    groups: int = 4
    max_steps: int = 1000
    heads: int = 4
    patch_size: int = 1
    max_attention_size: int | None = None
    dropout: float = 0.0
    first_skip: bool = False
    learn_variance: bool = False
    n_classes: int | None = None
    clustered: bool = False
    label_dropout: float = 0.0

    @classmethod
    def of(cls, params: TrainUnet, image_shape: tuple[int, ...]) -> "UnetConfig":
        """As params.yaml has it, for images of FashionMNIST."""
        known = {field.name: getattr(params, field.name) for field in fields(cls) if hasattr(params, field.name)}
        shape: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in known.items()
        }
        n_classes = {"none": None, "classes": FASHION_MNIST_CLASSES, "clusters": params.n_clusters}[params.labels]
        return cls(image_shape, n_classes=n_classes, clustered=params.labels == "clusters", **shape)


class Unet(DiffusionModel):
    """Predicts the noise in images of config.image_shape.

    Down: a `Stack` of blocks a level and, between levels, a strided convolution. Middle. Up: for each level but the
    first, from the lowest, a `Stack` over the maps beside those of the way down, and a transposed convolution. Last, a
    block at full resolution.

    Raises ValueError for an image size that cannot be halved as often as there are levels, and for channels that
    groups or heads do not divide.
    """

    def __init__(self, config: UnetConfig) -> None:
        super().__init__()
        _check(config)
        self.config = config
        self.img_shape = tuple(config.image_shape)
        self.noise_schedule, self.n_classes = None, config.n_classes
        channels, groups, dropout = config.channels, config.groups, config.dropout
        step_channels = 4 * channels
        pixel_channels = config.image_shape[0] * config.patch_size**2
        sizes = [config.image_shape[1] // config.patch_size // 2**level for level in range(len(config.dim_mults))]
        heads = [config.heads if size <= (config.max_attention_size or size) else None for size in sizes]
        widths = list(pairwise([channels, *(channels * mult for mult in config.dim_mults)]))

        self.conv_in = nn.Conv2d((1 + config.clustered) * pixel_channels, channels, 7, padding=3)
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
        self.conv_out = nn.Conv2d(channels, (1 + config.learn_variance) * pixel_channels, 1)
        # Last, so that the weights before it start out the same with labels and without.
        self.label = None
        if config.n_classes is not None and config.clustered:
            self.clusters = Clusters(config.n_classes, self.img_shape)
        elif config.n_classes is not None:
            self.label = nn.Embedding(config.n_classes + 1, step_channels)  # the last vector says nothing

    def forward(
        self,
        images: Float[Tensor, "b c h w"],
        num_steps: Shaped[Tensor, "b"],
        labels: Shaped[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b c h w"]:
        return self.with_variance(images, num_steps, labels)[0]

    def with_variance(
        self,
        images: Float[Tensor, "b c h w"],
        num_steps: Shaped[Tensor, "b"],
        labels: Shaped[Tensor, "b"] | None = None,
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"] | None]:
        """labels: what the images show, from 0 to n_classes - 1, or n_classes, which says nothing of an image.

        ValueError where the config says that there are none, or some.
        """
        if (labels is None) != (self.n_classes is None):
            told = "none are given" if labels is None else "they are given"
            raise ValueError(f"n_classes is {self.n_classes}, which says whether labels are needed, and {told}")
        step = self.step(num_steps)
        if labels is not None and self.n_classes is not None:
            if self.training and self.config.label_dropout:
                labels = withheld(labels, self.config.label_dropout, self.n_classes)
            if self.clusters is not None:
                images = torch.cat((images, self.clusters(labels)), dim=1)
            if self.label is not None:
                step = step + self.label(labels.long())
        x = self.conv_in(F.pixel_unshuffle(images, self.config.patch_size))
        skips = []
        for i, stack in enumerate(self.down):
            x = stack(x, step)
            skips.append(x)
            if i < len(self.downsample):
                x = self.downsample[i](x)
        x = self.middle2(self.middle_attention(self.middle1(x, step)), step)
        for stack, upsample in zip(self.up, self.upsample, strict=True):
            x = upsample(stack(torch.cat((x, skips.pop()), dim=1), step))
        if self.config.first_skip:
            x = torch.cat((x, skips.pop()), dim=1)
        said = F.pixel_shuffle(self.conv_out(self.last(x, step)), self.config.patch_size)
        if not self.config.learn_variance:
            return said, None
        predicted, v = said.chunk(2, dim=1)
        return predicted, (v + 1) / 2  # as in improved-diffusion: an untrained network says about 1/2


def _check(config: UnetConfig) -> None:
    _, height, width = config.image_shape
    multiple = config.patch_size * 2 ** (len(config.dim_mults) - 1)
    if height % multiple or width % multiple or not height or not width:
        raise ValueError(
            f"image size {height}x{width}: patch_size {config.patch_size} and {len(config.dim_mults)} dim_mults take "
            f"heights and widths that are multiples of {multiple}"
        )
    for name, divisor in (("groups", config.groups), ("heads", config.heads), ("2 (sines and cosines)", 2)):
        if config.channels % divisor:
            raise ValueError(f"channels is {config.channels}; it must be a multiple of {name}, {divisor}")
