"""Whether images show what their captions say: the attributes by the pixel rules, the class by a classifier.

An image adheres if its class is the caption's and each attribute that the caption says is measured in it, by the rules
of that class. What a caption does not say is left open.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Integer, UInt8
from torch import Tensor

from ddpm.captions.attributes import ATTRIBUTES, VALUES, measured
from ddpm.captions.grammar import parse


class Adherence(NamedTuple):
    """What agrees, image by image.

    Attributes:
        item: The class.
        said: Whether the caption says a value, attribute by attribute.
        shown: Whether the image shows that value.
    """

    item: Bool[Tensor, " n"]
    said: Bool[Tensor, "n attributes"]
    shown: Bool[Tensor, "n attributes"]

    @property
    def whole(self) -> Bool[Tensor, " n"]:
        """Whether all that the caption says is there."""
        return self.item & (self.shown | ~self.said).all(1)

    @property
    def shares(self) -> dict[str, float]:
        """Shares of the images in which the whole caption, the class and each attribute that was said are right."""
        found = {"whole": self.whole, "class": self.item}
        for column, name in enumerate(ATTRIBUTES):
            if (said := self.said[:, column]).any():
                found[name] = self.shown[said, column]
        return {name: right.double().mean().item() for name, right in found.items()}


def adherence(images: UInt8[Tensor, "n c h w"], captions: Sequence[str], classes: Integer[Tensor, " n"]) -> Adherence:
    """Compare images with their captions.

    Args:
        images: 8-bit.
        captions: One an image.
        classes: What a classifier sees in each image.

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
