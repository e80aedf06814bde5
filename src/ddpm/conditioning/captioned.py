"""Base class of conditionings on captions."""

from collections.abc import Iterable, Sequence
from random import Random

import torch
from jaxtyping import Float, Int64, Integer, Shaped
from torch import Tensor

from ddpm.captions.attributes import ATTRIBUTES, DATA_SET, RULES
from ddpm.captions.describe import described
from ddpm.captions.grammar import NAMES_ITEM, Meaning, parse, render
from ddpm.captions.vocabulary import NUMBERS, PADDING, SIZE, tokens
from ddpm.conditioning.conditioning import Conditioning
from ddpm.images import denormalize_img, to_uint8
from ddpm.run.seeding import derive_seed

_CLASSES = torch.full((SIZE,), -1)  # by token ID: the class that the word names, or -1
_CLASSES[[NUMBERS[noun] for noun in NAMES_ITEM]] = torch.tensor(list(NAMES_ITEM.values()))


def cond_of_rows(conditioning: Conditioning, rows: Integer[Tensor, "n length"]) -> Shaped[Tensor, "n *rest"]:
    """The `cond` for captions: their token IDs, or the classes that they name for a class-conditional network.

    Args:
        conditioning: The network's conditioning.
        rows: Token IDs, as returned by `captions.vocabulary.tokens`.

    Raises:
        ValueError: The network takes neither captions nor classes.
    """
    if isinstance(conditioning, ReadsCaptions):
        return rows
    return conditioning.of_labels(classes_of(rows))


def classes_of(rows: Integer[Tensor, "n length"]) -> Int64[Tensor, " n"]:
    """The classes that captions name, or -1 for the empty caption."""
    return _CLASSES[rows.long().cpu()].amax(1)


class ReadsCaptions(Conditioning):
    """`cond` is a row of token IDs (`captions.vocabulary`). The empty caption is all padding.

    Args:
        n_classes: Number of classes that captions are drawn for.
        dropout: Probability of an empty caption in training.
    """

    describes = "given a caption"
    needs_labels = True
    data_set = DATA_SET

    def __init__(self, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.n_classes, self.dropout = n_classes, dropout

    def check(self, cond: Integer[Tensor, "n length"]) -> None:
        """Raise ValueError for an invalid token ID."""
        if ((cond < 0) | (cond >= SIZE)).any():
            raise ValueError(f"cond is {cond.unique().tolist()}; allowed: word numbers 0 to {SIZE - 1}")

    def encode(self, images: Float[Tensor, "n c h w"], labels: Shaped[Tensor, "n"] | None) -> Int64[Tensor, "n length"]:
        """Captions of the attributes measured in the images. The wording depends only on the image."""
        if labels is None:
            raise ValueError("captions describe classes; this data set has none, so use clusters or null")
        return tokens(described(to_uint8(denormalize_img(images)).cpu(), labels.cpu())[0])

    def draw(self, seed: int, indices: Iterable[int]) -> Int64[Tensor, "n length"]:
        """Captions of class 0, 1, ... round-robin, with random attributes."""
        return tokens([self._drawn(index % self.n_classes, derive_seed(seed, "caption", index)) for index in indices])

    def _drawn(self, item: int, seed: int) -> str:
        rng = Random(seed)
        values = (rng.choice([*ATTRIBUTES[name], None]) for name in RULES[item])
        return render(Meaning(item, tuple(value for value in values if value)), rng)

    def of_labels(self, labels: Shaped[Tensor, " n"]) -> Int64[Tensor, "n length"]:
        """Captions that name only the class.

        Raises:
            ValueError: A label is not in 0..n_classes - 1.
        """
        if labels.is_floating_point() or ((labels < 0) | (labels >= self.n_classes)).any():
            raise ValueError(f"labels are {labels.unique().tolist()}; allowed: whole numbers 0 to {self.n_classes - 1}")
        return tokens([render(Meaning(item), Random(0)) for item in labels.tolist()])

    def of_captions(self, captions: Sequence[str]) -> Int64[Tensor, "n length"]:
        """The captions' token IDs.

        Raises:
            UserError: A caption is empty, too long or contradictory, or has an unknown word.
        """
        rows = tokens(captions)
        for caption in captions:
            parse(caption)
        return rows

    def labels(self, cond: Integer[Tensor, "n length"]) -> Int64[Tensor, "n"]:
        return classes_of(cond)

    def null(self, cond: Integer[Tensor, "b length"]) -> Int64[Tensor, "b length"]:
        return torch.full_like(cond, PADDING)

    def mix(
        self, first: Integer[Tensor, "1 length"], second: Integer[Tensor, "1 length"], weights: Float[Tensor, "n"]
    ) -> Integer[Tensor, "n length"]:
        """The caption of the image with the larger weight, or of the first image if the weights are equal."""
        return torch.where(weights[:, None].to(first.device) > 0.5, second, first)
