"""Captions of the splits of the data set, and which training images are withheld."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from annotated_types import Ge, Le, Len
from jaxtyping import Bool, Int64
from pydantic import AfterValidator, Strict
from torch import Tensor

from ddpm.captions.attributes import RULES, VALUES, measured_together, shows
from ddpm.captions.describe import described
from ddpm.captions.vocabulary import SIZE, tokens
from ddpm.data.dataset import ImageDataset
from ddpm.errors import UserError
from ddpm.run.files import load_tensors, save_tensors
from ddpm.run.params import Section


def _a_pair(pair: tuple[str, str]) -> tuple[str, str]:
    for value in pair:
        if value not in VALUES:
            raise ValueError(f"{value!r} is not an attribute's value; allowed: {', '.join(VALUES)}")
    if not measured_together(*pair):
        raise ValueError(f"no class is measured for both {pair[0]} and {pair[1]}, so there is nothing to withhold")
    return pair


Pair = Annotated[tuple[str, str], Strict(False), AfterValidator(_a_pair)]


class Captions(Section):
    """Section `captions` of doors/captions.

    Attributes:
        withheld: Pairs of attribute values. Images that have both values are left out of training.
        n_shown: Images per value in the figure.
    """

    withheld: Annotated[list[Pair], Len(0, 20)]
    n_shown: Annotated[int, Ge(1), Le(24)]


class CaptionedSplit(NamedTuple):
    """The captions of a split's images, in its order.

    Attributes:
        tokens: Rows of `vocabulary.tokens`.
        values: The output of `attributes.measured`.
        seen: Whether each image has none of the withheld pairs.
    """

    tokens: Int64[Tensor, "n length"]
    values: Int64[Tensor, "n attributes"]
    seen: Bool[Tensor, " n"]


def caption_split(dataset: ImageDataset, withheld: list[tuple[str, str]]) -> CaptionedSplit:
    """Caption each image of a split.

    Raises:
        UserError: The data set has no classes, or not those of FashionMNIST.
    """
    if dataset.labels is None or len(dataset.class_names) != len(RULES):
        raise UserError(f"captions need the {len(RULES)} classes of FashionMNIST; this data set has other classes")
    captions, values = described(dataset.images, dataset.labels)
    return CaptionedSplit(tokens(captions), values, ~shows(values, withheld))


def save_split(path: Path, split: CaptionedSplit) -> None:
    """Write a split to a file."""
    save_tensors(path, tokens=split.tokens, values=split.values, seen=split.seen)


def load_split(path: Path) -> CaptionedSplit:
    """Read a file written by `save_split`.

    Raises:
        UserError: The file is missing or damaged.
    """
    tensors = load_tensors(path)
    return CaptionedSplit(*(tensors[name] for name in CaptionedSplit._fields))


def summary(splits: Mapping[str, CaptionedSplit]) -> dict[str, Any]:
    """Numbers of words, distinct captions, images and withheld images by split, and training images by value."""
    train = splits["train"]
    return {
        "words": SIZE - 1,
        "different captions": len(train.tokens.unique(dim=0)),
        "images": {name: len(split.seen) for name, split in splits.items()},
        "withheld": {name: int((~split.seen).sum()) for name, split in splits.items()},
        "training images by value": {
            value: int((train.values[:, number // 2] == number % 2 + 1).sum()) for number, value in enumerate(VALUES)
        },
    }
