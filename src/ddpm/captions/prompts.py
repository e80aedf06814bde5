"""Captions to draw samples for: full captions of held-out images, with and without withheld pairs."""

from random import Random
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int64, Integer
from torch import Tensor

from ddpm.captions.describe import meaning_of
from ddpm.captions.grammar import render
from ddpm.captions.split import CaptionedSplit
from ddpm.captions.vocabulary import tokens
from ddpm.errors import UserError
from ddpm.run.seeding import derive_seed


class Prompts(NamedTuple):
    """Captions to draw samples for.

    Attributes:
        tokens: Rows of `vocabulary.tokens`.
        seen: Whether each caption has none of the pairs that were withheld from training.
        images: Indices of the captioned images.
    """

    tokens: Int64[Tensor, "n length"]
    seen: Bool[Tensor, " n"]
    images: Int64[Tensor, " n"]


def choose_prompts(
    split: CaptionedSplit, labels: Integer[Tensor, " n"], n_seen: int, n_withheld: int, seed: int
) -> Prompts:
    """Captions with all measured values, for the first images without and with a withheld pair.

    Args:
        split: The captions of held-out images.
        labels: Classes of these images.
        n_seen: Number of captions without a withheld pair.
        n_withheld: Number of captions with a withheld pair. If there are fewer such images, they are repeated.
        seed: Seed of the wording.

    Raises:
        UserError: Fewer than `n_seen` images have no withheld pair, or n_withheld is above 0 and no image has one.
    """
    without, with_pair = split.seen.nonzero()[:, 0], (~split.seen).nonzero()[:, 0]
    if len(without) < n_seen or (n_withheld and not len(with_pair)):
        raise UserError(
            f"n_seen is {n_seen} and n_withheld {n_withheld}; of the held-out images {len(without)} show no withheld "
            f"pair, and {len(with_pair)} show one"
        )
    chosen = torch.cat((without[:n_seen], with_pair[torch.arange(n_withheld) % max(len(with_pair), 1)]))
    said = [
        render(meaning_of(int(labels[row]), split.values[row]), Random(derive_seed(seed, "prompt", i)))
        for i, row in enumerate(chosen.tolist())
    ]
    return Prompts(tokens(said), torch.arange(len(said)) < n_seen, chosen)
