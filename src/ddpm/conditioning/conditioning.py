"""What a network is given beside x_t and t. Each kind is a file in `kinds/`.

A conditioning encodes images and labels as `cond`, one row an image, draws a `cond` for new images, and turns it into
what a network can use: a vector that is added to the step embedding, an image that is stacked on x_t, or tokens that
its attention sees. Networks, samplers and stages pass `cond` on without knowing which kind it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Integer, Shaped
from torch import Tensor, nn

from ddpm.registry import Registry
from ddpm.run.params import Section

CONDITIONINGS: Registry[type["Conditioning"]] = Registry("ddpm.conditioning.kinds", "conditioning")


class Given(NamedTuple):
    """A conditioning as a network uses it.

    Attributes:
        embedding: Is added to the step embedding; None for nothing.
        image: Is stacked on x_t, as further channels; None for nothing.
        tokens: Vectors that the network's attention sees beside the pixels; None for nothing.
    """

    embedding: Float[Tensor, "b d"] | None = None
    image: Float[Tensor, "b c h w"] | None = None
    tokens: Float[Tensor, "b n d"] | None = None


class Conditioning(nn.Module, ABC):
    """A kind of conditioning, saved with the network that uses it.

    Attributes:
        Options: The class of its options in params.yaml; they are arguments of its constructor.
        describes: What samples are given, as in "samples from pure noise, given a class label".
        gives_image: Whether it gives an image, of as many channels as x_t.
        gives_mask: Whether a mask comes with the image, as one more channel.
        needs_labels: Whether it takes a data set with classes.
        data_set: The only data set that it is made for; None for any.
        token_size: Length of the tokens that it gives; 0 if it gives none.
        cross_attention: Whether tokens have an attention of their own; else they stand beside the pixels.
        dropout: Share of the training images that get the null conditioning, for guidance.
    """

    Options: ClassVar[type[Section]]
    describes: ClassVar[str]
    gives_image: ClassVar[bool] = False
    gives_mask: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False
    data_set: ClassVar[str | None] = None
    token_size: int = 0
    cross_attention: bool = False
    dropout: float = 0.0

    def fit(self, images: Float[Tensor, "n c h w"], seed: int) -> None:
        """Learn what the kind needs to know of the training images, in [-1, 1], before the network is trained."""

    @abstractmethod
    def encode(self, images: Float[Tensor, "n c h w"], labels: Shaped[Tensor, "n"] | None) -> Shaped[Tensor, "n *rest"]:
        """The `cond` of images in [-1, 1] that show the classes `labels`."""

    @abstractmethod
    def draw(self, seed: int, indices: Iterable[int]) -> Shaped[Tensor, "n *rest"]:
        """The `cond` of new images; that of number i does not depend on the others."""

    def of_labels(self, labels: Shaped[Tensor, " n"]) -> Shaped[Tensor, "n *rest"]:
        """The `cond` of new images of the classes `labels`; ValueError if the kind takes none, or not these."""
        raise ValueError(f"labels are given ({len(labels)}); this model is conditioned on something else")

    def of_captions(self, captions: Sequence[str]) -> Shaped[Tensor, "n *rest"]:
        """The `cond` of new images with these captions; ValueError if the kind takes none, UserError if not these."""
        raise ValueError(f"captions are given ({len(captions)}); this model is conditioned on something else")

    def labels(self, cond: Shaped[Tensor, "n *rest"]) -> Shaped[Tensor, " n"] | None:  # noqa: ARG002
        """The classes that `cond` stands for; None if the kind is not about classes."""
        return None

    def check(self, cond: Shaped[Tensor, "n *rest"]) -> None:
        """Raise ValueError if `cond`, of the right shape and type, holds a value that stands for nothing."""

    @abstractmethod
    def null(self, cond: Shaped[Tensor, "b *rest"]) -> Shaped[Tensor, "b *rest"]:
        """The null conditioning, which gives no information: as many rows as `cond` (Ho & Salimans 2022)."""

    @abstractmethod
    def mix(
        self, first: Shaped[Tensor, "1 *rest"], second: Shaped[Tensor, "1 *rest"], weights: Float[Tensor, "n"]
    ) -> Shaped[Tensor, "n *any"]:
        """The `cond` of mixtures of two images; weights: the share of the second, from 0 to 1."""

    @abstractmethod
    def forward(self, cond: Shaped[Tensor, "b *rest"]) -> Given:
        """What the network is given. In training mode, a share `dropout` of the rows is null."""

    def dropped(self, cond: Shaped[Tensor, "b *rest"]) -> Shaped[Tensor, "b *rest"]:
        """`cond` with a share `dropout` of its rows made null; unchanged in eval mode."""
        if not self.training or not self.dropout:
            return cond
        chosen = (torch.rand(len(cond)) < self.dropout).to(cond.device)  # on the CPU: the same rows on any device
        return torch.where(chosen.reshape(-1, *[1] * (cond.ndim - 1)), self.null(cond), cond)


def check_numbers(cond: Integer[Tensor, " n"], null: int) -> None:
    """Raise ValueError unless all of `cond` is in 0..null, the last of which stands for no conditioning."""
    if ((cond < 0) | (cond > null)).any():
        raise ValueError(f"cond is {cond.unique().tolist()}; allowed: whole numbers 0 to {null}, and {null} is none")


def build_conditioning(
    config: Mapping[str, Any] | None, img_shape: tuple[int, ...], n_classes: int, embedding_size: int
) -> Conditioning | None:
    """The conditioning that a network's config names.

    Args:
        config: Its "name" and its options; None for an unconditional network.
        img_shape: (channels, height, width) of the network's images.
        n_classes: Classes of the data set.
        embedding_size: Length of the network's step embedding.
    """
    if config is None:
        return None
    own = {key: value for key, value in config.items() if key != "name"}
    kind = CONDITIONINGS[config["name"]]
    return kind(img_shape=img_shape, n_classes=n_classes, embedding_size=embedding_size, **own)


def image_channels(config: Mapping[str, Any] | None, img_shape: tuple[int, ...]) -> int:
    """Channels of the image that a conditioning gives beside x_t; 0 if it gives none."""
    if config is None or not CONDITIONINGS[config["name"]].gives_image:
        return 0
    return img_shape[0] + CONDITIONINGS[config["name"]].gives_mask
