"""Text differences: two captions of an image that differ in exactly one value."""

import pytest
import torch

from ddpm.captions.attributes import VALUES
from ddpm.captions.differences import choose_difference
from ddpm.captions.grammar import parse
from ddpm.captions.split import CaptionedSplit
from ddpm.captions.vocabulary import captions
from ddpm.errors import UserError


def split(*rows):
    """Images with these values."""
    values = torch.zeros(len(rows), 6, dtype=torch.int64)
    for row, said in zip(values, rows, strict=True):
        for value in said:
            column, number = divmod(VALUES.index(value), 2)
            row[column] = number + 1
    return CaptionedSplit(
        torch.zeros(len(rows), 12, dtype=torch.int64), values, torch.ones(len(rows), dtype=torch.bool)
    )


SPLIT = split(["light"], ["dark", "plain", "wide"], [], ["dark"], ["dark", "heeled"], ["dark"])
LABELS = torch.tensor([3, 3, 8, 8, 5, 1])


def test_captions_differ_only_in_the_value():
    found = choose_difference(SPLIT, LABELS, "dark", "light", 3, seed=0)
    assert found.images.tolist() == [1, 3, 4]
    for before, after, item in zip(captions(found.before), captions(found.after), (3, 8, 5), strict=True):
        first, second = parse(before), parse(after)
        assert first.item == second.item == item
        assert (set(first.values) - set(second.values), set(second.values) - set(first.values)) == ({"dark"}, {"light"})
        differing = [pair for pair in zip(before.split(), after.split(), strict=True) if pair[0] != pair[1]]
        assert len(differing) == 1  # the wording is the same


def test_multiword_detail_is_replaced_as_a_whole():
    rows = split(*[["heeled"]] * 20)
    found = choose_difference(rows, torch.full((20,), 5), "heeled", "flat", 20, seed=0)
    said = dict(zip(captions(found.before), captions(found.after), strict=True))
    assert said["a sandal with a heel"] == "a sandal with no heel"
    assert said["a heeled sandal"] == "a flat sandal"
    assert {parse(caption).values for caption in said.values()} == {("flat",)}


def test_wording_depends_on_the_seed():
    rows, labels = split(*[["dark", "plain"]] * 20), torch.full((20,), 3)
    said = [captions(choose_difference(rows, labels, "dark", "light", 20, seed).before) for seed in (0, 0, 1)]
    assert said[0] == said[1] != said[2]


def test_value_that_no_image_shows_is_rejected():
    with pytest.raises(UserError, match="no held-out image is patterned, so none can be made plain"):
        choose_difference(SPLIT, LABELS, "patterned", "plain", 3, seed=0)
