"""Pairs of captions that differ in one value, for text differences (DALL-E 2, Ramesh et al. 2022, section 3.3)."""

from random import Random
from typing import NamedTuple

from jaxtyping import Int64, Integer
from torch import Tensor

from ddpm.captions.attributes import VALUES
from ddpm.captions.describe import meaning_of
from ddpm.captions.grammar import ADJECTIVES, DETAILS, MEANS, render
from ddpm.captions.split import CaptionedSplit
from ddpm.captions.vocabulary import tokens
from ddpm.errors import UserError
from ddpm.run.seeding import derive_seed


class Difference(NamedTuple):
    """Images with an attribute value, and their captions with this value and with the other one.

    Attributes:
        images: Indices of the images.
        before: Captions with all measured values of the images, as rows of `vocabulary.tokens`.
        after: The same captions with the other value.
    """

    images: Int64[Tensor, " n"]
    before: Int64[Tensor, "n length"]
    after: Int64[Tensor, "n length"]


def choose_difference(
    split: CaptionedSplit, labels: Integer[Tensor, " n"], first: str, second: str, most: int, seed: int
) -> Difference:
    """The first images with a value, and their captions with this value and with the other one.

    Args:
        split: The captions of held-out images.
        labels: Classes of these images.
        first: A value, such as "dark".
        second: The other value of its attribute.
        most: Maximum number of images.
        seed: Seed of the wording, which differs only in the words for the value.

    Raises:
        UserError: No image has the value.
    """
    column, number = divmod(VALUES.index(first), 2)
    chosen = (split.values[:, column] == number + 1).nonzero()[:most, 0]
    if not len(chosen):
        raise UserError(f"no held-out image is {first}, so none can be made {second}")
    before = [
        render(meaning_of(int(labels[image]), split.values[image]), Random(derive_seed(seed, "difference", i)))
        for i, image in enumerate(chosen.tolist())
    ]
    return Difference(chosen, tokens(before), tokens([_changed(caption, first, second) for caption in before]))


def _changed(caption: str, first: str, second: str) -> str:
    """The caption with the words for `first` replaced by those for `second`."""
    detail, other = (" ".join(DETAILS.get(value, ())) for value in (first, second))
    words = (ADJECTIVES[second][0] if MEANS.get(word) == first else word for word in caption.split())
    return " ".join(words).replace(detail, other)
