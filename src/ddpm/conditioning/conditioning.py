"""The interface of conditionings: network inputs besides x_t and t. Each kind is a file in `kinds/`.

A conditioning encodes images and labels as `cond`, one row per image, draws `cond` for new images, and maps it to the
input of a network: a vector that is added to the timestep embedding, an image that is concatenated with x_t, or tokens
for its attention. Networks, samplers and stages pass `cond` on and do not depend on its kind.
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
    """The output of a conditioning, as input of a network.

    Attributes:
        embedding: Vector that is added to the timestep embedding, or None.
        image: Image that is concatenated with x_t as extra channels, or None.
        tokens: Vectors for the network's attention, or None.
    """

    embedding: Float[Tensor, "b d"] | None = None
    image: Float[Tensor, "b c h w"] | None = None
    tokens: Float[Tensor, "b n d"] | None = None


class Conditioning(nn.Module, ABC):
    """A kind of conditioning, saved with the network that uses it.

    Attributes:
        Options: The class of its options in params.yaml, which are arguments of its constructor.
        describes: What samples are conditioned on, as in "samples from pure noise, given a class label".
        gives_image: Whether it returns an image, with as many channels as x_t.
        gives_mask: Whether the image has a mask as an additional channel.
        needs_labels: Whether it needs a data set with classes.
        data_set: The only data set that it supports, or None for any.
        token_size: Length of its tokens, or 0 if it returns none.
        cross_attention: Whether tokens are attended to by cross-attention. Otherwise they join the self-attention.
        dropout: Probability of the null conditioning in training, for classifier-free guidance.
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
        """Fit the conditioning to the training images, in [-1, 1], before the network is trained."""

    @abstractmethod
    def encode(self, images: Float[Tensor, "n c h w"], labels: Shaped[Tensor, "n"] | None) -> Shaped[Tensor, "n *rest"]:
        """The `cond` of images in [-1, 1] with classes `labels`."""

    @abstractmethod
    def draw(self, seed: int, indices: Iterable[int]) -> Shaped[Tensor, "n *rest"]:
        """Draw the `cond` of new images. Each row depends only on the seed and its index."""

    def of_labels(self, labels: Shaped[Tensor, " n"]) -> Shaped[Tensor, "n *rest"]:
        """The `cond` of new images of the classes `labels`.

        Raises:
            ValueError: Labels are not supported, or one is invalid.
        """
        raise ValueError(f"labels are given ({len(labels)}); this model is conditioned on something else")

    def of_captions(self, captions: Sequence[str]) -> Shaped[Tensor, "n *rest"]:
        """The `cond` of new images with these captions.

        Raises:
            ValueError: Captions are not supported.
            UserError: A caption is invalid.
        """
        raise ValueError(f"captions are given ({len(captions)}); this model is conditioned on something else")

    def labels(self, cond: Shaped[Tensor, "n *rest"]) -> Shaped[Tensor, " n"] | None:  # noqa: ARG002
        """The classes of `cond`, or None for a conditioning without classes."""
        return None

    def check(self, cond: Shaped[Tensor, "n *rest"]) -> None:
        """Raise ValueError if `cond`, whose shape and dtype are right, has an invalid value."""

    @abstractmethod
    def null(self, cond: Shaped[Tensor, "b *rest"]) -> Shaped[Tensor, "b *rest"]:
        """The null conditioning, with as many rows as `cond` (Ho & Salimans 2022)."""

    @abstractmethod
    def mix(
        self, first: Shaped[Tensor, "1 *rest"], second: Shaped[Tensor, "1 *rest"], weights: Float[Tensor, "n"]
    ) -> Shaped[Tensor, "n *any"]:
        """The `cond` of interpolations between two images, with weights of the second image from 0 to 1."""

    @abstractmethod
    def forward(self, cond: Shaped[Tensor, "b *rest"]) -> Given:
        """The input of the network. In training mode, each row is null with probability `dropout`."""

    def dropped(self, cond: Shaped[Tensor, "b *rest"]) -> Shaped[Tensor, "b *rest"]:
        """`cond` with each row made null with probability `dropout`, or unchanged in eval mode."""
        if not self.training or not self.dropout:
            return cond
        chosen = (torch.rand(len(cond)) < self.dropout).to(cond.device)  # on the CPU: the same rows on any device
        return torch.where(chosen.reshape(-1, *[1] * (cond.ndim - 1)), self.null(cond), cond)


def check_numbers(cond: Integer[Tensor, " n"], null: int) -> None:
    """Raise ValueError unless all of `cond` is in 0..null, where `null` is the null conditioning."""
    if ((cond < 0) | (cond > null)).any():
        raise ValueError(f"cond is {cond.unique().tolist()}; allowed: whole numbers 0 to {null}, and {null} for none")


def build_conditioning(
    config: Mapping[str, Any] | None, img_shape: tuple[int, ...], n_classes: int, embedding_size: int
) -> Conditioning | None:
    """Build the conditioning that a network's config names.

    Args:
        config: "name" and options of the conditioning, or None for an unconditional network.
        img_shape: (channels, height, width) of the network's images.
        n_classes: Number of classes of the data set.
        embedding_size: Length of the network's timestep embedding.
    """
    if config is None:
        return None
    own = {key: value for key, value in config.items() if key != "name"}
    kind = CONDITIONINGS[config["name"]]
    return kind(img_shape=img_shape, n_classes=n_classes, embedding_size=embedding_size, **own)


def image_channels(config: Mapping[str, Any] | None, img_shape: tuple[int, ...]) -> int:
    """Number of channels that a conditioning adds to x_t, or 0 if it returns no image."""
    if config is None or not CONDITIONINGS[config["name"]].gives_image:
        return 0
    return img_shape[0] + CONDITIONINGS[config["name"]].gives_mask
