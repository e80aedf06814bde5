"""Words to tokens and back, and error messages for unreadable captions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm.captions.grammar import WORDS
from ddpm.captions.vocabulary import LENGTH, PADDING, SIZE, captions, tokens
from ddpm.errors import UserError


@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=LENGTH).map(" ".join), max_size=5))
def test_captions_invert_tokens(said):
    rows = tokens(said)
    assert rows.shape == (len(said), LENGTH)
    assert ((rows >= 0) & (rows < SIZE)).all()
    assert captions(rows) == said


def test_padding_decodes_to_empty_and_tokens_are_normalised():
    assert captions(torch.full((1, LENGTH), PADDING)) == [""]
    assert tokens(["A dark  DRESS"]).tolist() == tokens(["a dark dress"]).tolist()


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        ("", "caption is ''; it must have at least one word"),
        ("  ", "it must have at least one word"),
        ("a " * 13 + "dress", f"has 14 words; it must have at most {LENGTH}"),
        ("a darkish dress", "has the unknown word 'darkish'; the nearest known words are: dark"),
        ("a sneakers", "'sneakers'; the nearest known words are: sneaker"),
        ("a qqq dress", "'qqq'; known words: a, and, are"),
    ],
)
def test_tokens_rejects_unreadable_captions(caption, message):
    with pytest.raises(UserError, match=message) as error:
        tokens(["a dress", caption])
    assert "\n" not in str(error.value)
