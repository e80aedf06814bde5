"""Whether images match their captions: attributes are measured by pixel rules, the class by a classifier.

An image matches if it has the caption's class and, by the rules of that class, each attribute value that the caption
mentions. Attributes that a caption does not mention are ignored.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Integer, UInt8
from torch import Tensor

from ddpm.captions.attributes import ATTRIBUTES, VALUES, measured
from ddpm.captions.grammar import parse


class Adherence(NamedTuple):
    """Which parts of the captions the images match.

    Attributes:
        item: Whether the image has the caption's class.
        said: Whether the caption mentions a value, for each attribute.
        shown: Whether the image has the mentioned value, for each attribute.
    """

    item: Bool[Tensor, " n"]
    said: Bool[Tensor, "n attributes"]
    shown: Bool[Tensor, "n attributes"]

    @property
    def whole(self) -> Bool[Tensor, " n"]:
        """Whether each image matches its whole caption."""
        return self.item & (self.shown | ~self.said).all(1)

    @property
    def shares(self) -> dict[str, float]:
        """Shares of images that match the whole caption, the class, and each attribute that the caption mentions."""
        found = {"whole": self.whole, "class": self.item}
        for column, name in enumerate(ATTRIBUTES):
            if (said := self.said[:, column]).any():
                found[name] = self.shown[said, column]
        return {name: right.double().mean().item() for name, right in found.items()}


def adherence(images: UInt8[Tensor, "n c h w"], captions: Sequence[str], classes: Integer[Tensor, " n"]) -> Adherence:
    """Compare images with their captions.

    Args:
        images: 8-bit images.
        captions: One per image.
        classes: The class of each image, as predicted by a classifier.

    Raises:
        UserError: A caption cannot be parsed.
    """
    meanings = [parse(caption) for caption in captions]
    items = torch.tensor([meaning.item for meaning in meanings], dtype=torch.int64)
    wanted = torch.zeros(len(images), len(ATTRIBUTES), dtype=torch.int64)
    for row, meaning in enumerate(meanings):
        for value in meaning.values:
            column, number = divmod(VALUES.index(value), 2)
            wanted[row, column] = number + 1
    said = wanted > 0
    return Adherence(classes.cpu() == items, said, said & (measured(images, items) == wanted))
