"""Tokenisation of captions: a token is a word, and rows are padded to `LENGTH`. The empty caption is all padding."""

from collections.abc import Sequence
from difflib import get_close_matches

import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from ddpm.captions.grammar import WORDS
from ddpm.errors import UserError

PADDING = 0
LENGTH = 12  # in words (the grammar's longest caption has ten)
NUMBERS = {word: number for number, word in enumerate(WORDS, start=1)}
SIZE = len(WORDS) + 1  # of the vocabulary, including padding
NEAREST = 3  # maximum number of suggestions for an unknown word


def tokens(captions: Sequence[str]) -> Int64[Tensor, "n length"]:
    """The token IDs of captions, from 1, padded with 0.

    Raises:
        UserError: A caption is empty or too long, or has an unknown word. The message lists the nearest known words.
    """
    return torch.tensor([_row(caption) for caption in captions], dtype=torch.int64).reshape(-1, LENGTH)


def captions(rows: Integer[Tensor, "n length"]) -> list[str]:
    """The captions of rows of token IDs, or "" for a row that is all padding."""
    return [" ".join(WORDS[number - 1] for number in row if number != PADDING) for row in rows.tolist()]


def _row(caption: str) -> list[int]:
    words = caption.lower().split()
    if not words:
        raise UserError(f"caption is {caption!r}; it must have at least one word")
    if len(words) > LENGTH:
        raise UserError(f"caption {caption!r} has {len(words)} words; it must have at most {LENGTH}")
    for word in words:
        if word not in NUMBERS:
            near = get_close_matches(word, WORDS, NEAREST, cutoff=0.6)
            known = f"the nearest known words are: {', '.join(near)}" if near else f"known words: {', '.join(WORDS)}"
            raise UserError(f"caption {caption!r} has the unknown word {word!r}; {known}")
    return [NUMBERS[word] for word in words] + [PADDING] * (LENGTH - len(words))
