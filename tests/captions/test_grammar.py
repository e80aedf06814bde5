"""Rendered captions can be parsed back. Invalid captions are rejected with a one-line message."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm.captions.attributes import ATTRIBUTES, RULES
from ddpm.captions.grammar import NOUNS, WORDS, Meaning, parse, render
from ddpm.captions.vocabulary import LENGTH
from ddpm.errors import UserError


@st.composite
def meanings(draw):
    item = draw(st.integers(0, len(RULES) - 1))
    values = (draw(st.sampled_from([None, *ATTRIBUTES[name]])) for name in ATTRIBUTES if name in RULES[item])
    return Meaning(item, tuple(value for value in values if value))


@given(meanings(), st.integers(0, 2**32))
def test_parse_inverts_render(meaning, seed):
    caption = render(meaning, Random(seed))
    assert parse(caption) == meaning
    assert len(caption.split()) <= LENGTH
    assert set(caption.split()) <= set(WORDS)


@given(meanings())
def test_render_varies_the_wording(meaning):
    said = {render(meaning, Random(seed)) for seed in range(40)}
    assert len(said) > 1


def test_each_class_has_unique_nouns():
    assert len(NOUNS) == len(RULES) == 10
    assert len(set(sum(NOUNS, ()))) == sum(map(len, NOUNS))


@pytest.mark.parametrize(
    ("caption", "meaning"),
    [
        ("a dark patterned long-sleeved shirt", Meaning(6, ("dark", "patterned", "long-sleeved"))),
        ("Blouse with SHORT sleeves that is pale and solid", Meaning(6, ("light", "plain", "short-sleeved"))),
        ("a short boot with no heel", Meaning(9, ("low", "flat"))),
        ("trousers that are slim", Meaning(1, ("narrow",))),
        ("a   bag ", Meaning(8)),
    ],
)
def test_parse_accepts_free_wording(caption, meaning):
    assert parse(caption) == meaning


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        ("dark and plain", "names no item; it must name one of: t-shirt, tee"),
        ("a dress and a coat", "names more than one item"),
        ("a dark pale dress", "says dark and light; only one tone is allowed"),
        ("a shirt with sleeves", "'with' has no meaning there; allowed: with short sleeves, with long sleeves,"),
    ],
)
def test_parse_rejects_invalid_captions(caption, message):
    with pytest.raises(UserError, match=message):
        parse(caption)
