"""Prompts: which images they describe, and that they state every measured value."""

import pytest
import torch

from ddpm.captions.describe import meaning_of
from ddpm.captions.grammar import parse
from ddpm.captions.prompts import choose_prompts
from ddpm.captions.split import CaptionedSplit
from ddpm.captions.vocabulary import captions, tokens
from ddpm.errors import UserError

LABELS = torch.tensor([3, 3, 0, 6, 3])
VALUES = torch.tensor(
    [[1, 1, 0, 0, 0, 0], [1, 0, 2, 0, 0, 0], [2, 2, 1, 0, 0, 0], [0, 0, 0, 0, 2, 0], [1, 2, 2, 0, 0, 0]]
)
SPLIT = CaptionedSplit(tokens(["a dress"] * 5), VALUES, torch.tensor([True, False, True, True, False]))


def test_prompts_state_all_values_of_first_images_per_group():
    found = choose_prompts(SPLIT, LABELS, n_seen=2, n_withheld=3, seed=0)
    assert found.images.tolist() == [0, 2, 1, 4, 1]
    assert found.seen.tolist() == [True, True, False, False, False]
    for said, image in zip(map(parse, captions(found.tokens)), found.images.tolist(), strict=True):
        assert said == meaning_of(int(LABELS[image]), VALUES[image])


def test_wording_depends_on_the_seed():
    first, again, other = (choose_prompts(SPLIT, LABELS, 3, 4, seed).tokens for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("n_seen", "n_withheld", "seen"), [(4, 0, SPLIT.seen), (1, 1, torch.ones(5).bool())])
def test_choose_prompts_rejects_more_than_available(n_seen, n_withheld, seen):
    with pytest.raises(UserError, match=f"n_seen is {n_seen} and n_withheld {n_withheld}; of the held-out images"):
        choose_prompts(SPLIT._replace(seen=seen), LABELS, n_seen, n_withheld, 0)
    assert len(choose_prompts(SPLIT, LABELS, 1, 0, 0).tokens) == 1
