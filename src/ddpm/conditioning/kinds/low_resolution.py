"""A low-resolution image, for the super-resolution network of a cascade (Ho et al. 2021, Saharia et al. 2022).

In training it is the image itself, average-pooled. In a cascade it is a sample from another network, with artefacts
that are absent in training. So it is noised, and the network is conditioned on the noise level: noise conditioning
augmentation (Saharia et al. 2022, section 2.4). The noise hides the artefacts, and the network generates the hidden
detail.
"""

from collections.abc import Iterable
from math import pi
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le, Lt
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ddpm.conditioning.conditioning import CONDITIONINGS, Conditioning, Given
from ddpm.data.pooling import pooled, pooled_shape
from ddpm.run.params import Section
from ddpm.run.seeding import generator

KEPT = 256  # number of low-resolution training images that `draw` chooses from


class LowResolutionOptions(Section):
    """Options of `LowResolution`.

    Attributes:
        factor: Downsampling factor.
        max_level: The highest noise level in training, where the level is drawn uniformly from 0.
        dropout: Probability of dropping the low-resolution image in training, for guidance.
    """

    factor: Annotated[int, Ge(1), Le(64)] = 2
    max_level: Annotated[float, Ge(0), Le(1)] = 1.0
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0


class LowResolution(Conditioning):
    """`cond` is a noised low-resolution image, with its noise level as an additional channel (`with_noise`).

    Args:
        img_shape: (channels, height, width) of the images.
        n_classes: Not used.
        embedding_size: Length of the embedding of the noise level.
        factor: Downsampling factor, the side of the pooled blocks in pixels.
        max_level: The highest noise level in training.
        dropout: Probability of dropping the low-resolution image in training.

    Raises:
        ValueError: `factor` does not divide the height and width.
    """

    Options = LowResolutionOptions
    describes = "given a low-resolution image"
    gives_image = True
    kept: Float[Tensor, "k c h1 w1"]

    def __init__(
        self,
        img_shape: tuple[int, ...],
        n_classes: int,  # noqa: ARG002
        embedding_size: int,
        factor: int,
        max_level: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.factor, self.max_level, self.dropout = factor, max_level, dropout
        self.register_buffer("kept", torch.zeros(KEPT, *pooled_shape(img_shape, factor)))
        self.level = nn.Sequential(nn.Linear(2, embedding_size), nn.SiLU(), nn.Linear(embedding_size, embedding_size))

    def fit(self, images: Float[Tensor, "n c h w"], seed: int) -> None:
        """Keep some of the training images at low resolution, for `draw`."""
        chosen = torch.randint(len(images), (len(self.kept),), generator=generator(seed, "kept"))
        self.kept.copy_(pooled(images[chosen], self.factor))

    def check(self, cond: Float[Tensor, "n c1 h1 w1"]) -> None:
        """Raise ValueError for a level outside 0..1 or pixels that are not finite."""
        low, level = cond[:, :-1], cond[:, -1]
        if not low.isfinite().all() or not ((level >= 0) & (level <= 1)).all():
            lowest, highest = level.min().item(), level.max().item()
            raise ValueError(f"cond has levels {lowest:g} to {highest:g}; allowed: levels 0 to 1, and finite pixels")

    def encode(
        self,
        images: Float[Tensor, "n c h w"],
        labels: Shaped[Tensor, "n"] | None,  # noqa: ARG002
    ) -> Float[Tensor, "n c1 h1 w1"]:
        """The images at low resolution, without noise."""
        return without_noise(pooled(images, self.factor))

    def draw(self, seed: int, indices: Iterable[int]) -> Float[Tensor, "n c1 h1 w1"]:
        """Training images at low resolution, without noise."""
        streams = (generator(seed, "low resolution", index) for index in indices)
        chosen = [int(torch.randint(len(self.kept), (), generator=stream)) for stream in streams]
        return without_noise(self.kept[chosen].cpu())

    def null(self, cond: Float[Tensor, "b c1 h1 w1"]) -> Float[Tensor, "b c1 h1 w1"]:
        """Grey at level 1, where nothing of the image is left."""
        return with_noise(torch.zeros_like(cond[:, :-1]), torch.ones(len(cond)), torch.zeros_like(cond[:, :-1]))

    def mix(
        self, first: Float[Tensor, "1 c1 h1 w1"], second: Float[Tensor, "1 c1 h1 w1"], weights: Float[Tensor, "n"]
    ) -> Float[Tensor, "n c1 h1 w1"]:
        """Interpolations of the two images."""
        return torch.lerp(first, second, weights.to(first).reshape(-1, 1, 1, 1))

    def forward(self, cond: Float[Tensor, "b c1 h1 w1"]) -> Given:
        if self.training and self.max_level:  # on the CPU: the same noise on any device
            low, level = cond[:, :-1], self.max_level * torch.rand(len(cond))
            cond = with_noise(low, level, torch.randn(low.shape).to(low))
        cond = self.dropped(cond)
        factors = torch.stack(scales(cond[:, -1, 0, 0]), dim=1)
        return Given(self.level(factors), F.interpolate(cond[:, :-1], scale_factor=self.factor))


def scales(level: Float[Tensor, "*n"]) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """alpha = cos(pi level / 2) and sigma = sin(pi level / 2), the factors of image and noise."""
    return (level * pi / 2).cos(), (level * pi / 2).sin()


def with_noise(
    low: Float[Tensor, "n c h1 w1"], level: Float[Tensor, "n"], noise: Float[Tensor, "n c h1 w1"]
) -> Float[Tensor, "n c1 h1 w1"]:
    """The `cond` of noised low-resolution images: alpha low + sigma noise, and the level as an additional channel.

    Args:
        low: Low-resolution images in [-1, 1].
        level: Noise level of each image, from 0 (none) to 1 (pure noise).
        noise: Standard normal noise.

    Raises:
        ValueError: A level is out of range.
    """
    if wrong := [value for value in level.tolist() if not 0 <= value <= 1]:
        raise ValueError(f"level is {wrong[0]:g}; it must be in 0..1")
    level = level.to(low).reshape(-1, 1, 1, 1)
    alpha, sigma = scales(level)
    return torch.cat((alpha * low + sigma * noise, level.expand_as(low[:, :1])), dim=1)


def without_noise(low: Float[Tensor, "n c h1 w1"]) -> Float[Tensor, "n c1 h1 w1"]:
    """The `cond` of low-resolution images as they are, at level 0."""
    return with_noise(low, torch.zeros(len(low)), torch.zeros_like(low))


CONDITIONINGS.register(__name__, LowResolution)
