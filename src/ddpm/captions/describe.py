"""Captions of images: measured attributes, rendered as text that depends only on the image."""

import hashlib
from random import Random

from jaxtyping import Int64, Integer, UInt8
from torch import Tensor

from ddpm.captions.attributes import VALUES, measured
from ddpm.captions.grammar import Meaning, render

SAID = 0.75  # probability that a caption mentions a measured value


def described(
    images: UInt8[Tensor, "n c h w"], items: Integer[Tensor, " n"]
) -> tuple[list[str], Int64[Tensor, "n attributes"]]:
    """Caption images by their measured attributes.

    Random choices are seeded by a hash of the image, so a caption depends neither on a seed nor on other images.

    Args:
        images: 8-bit images.
        items: Class indices of FashionMNIST.

    Returns:
        The captions, and the output of `attributes.measured`.
    """
    values = measured(images, items)
    made = []
    for image, item, row in zip(images, items.tolist(), values, strict=True):
        rng = Random(hashlib.blake2b(image.numpy().tobytes(), digest_size=8).digest())
        meaning = meaning_of(item, row)
        said = tuple(value for value in meaning.values if rng.random() < SAID)
        made.append(render(Meaning(item, said), rng))
    return made, values


def meaning_of(item: int, row: Int64[Tensor, " attributes"]) -> Meaning:
    """The meaning of a row of `attributes.measured`, with all of its values."""
    return Meaning(item, tuple(VALUES[2 * i + number - 1] for i, number in enumerate(row.tolist()) if number))
