"""Shares with intervals, on agreements that are known."""

import pytest
import torch

from ddpm.captions.adherence import Adherence
from ddpm.captions.attributes import NAMES
from ddpm.evaluation.captioned import adherence_scores, as_values, mean, part_of


def known():
    said = torch.zeros(400, len(NAMES), dtype=torch.bool)
    said[:200, 0] = True
    shown = said.clone()
    shown[:50] = False
    return Adherence(torch.arange(400) % 4 > 0, said, shown)


def test_shares_are_of_the_images_that_the_caption_is_about():
    found = adherence_scores(known(), 50, 0)
    assert found.keys() == {"whole", "class", "tone"}
    assert found["class"].value == 3 / 4
    assert found["tone"].value == 150 / 200
    assert found["whole"].value == known().whole.double().mean()
    # the half-sample bootstrap of a share: its standard error, give or take a third
    assert (found["class"].high - 0.75) / 1.96 == pytest.approx((0.75 * 0.25 / 400) ** 0.5, rel=1 / 3)
    assert as_values(found)["class"]["value"] == 3 / 4


def test_part_of_the_images():
    part = part_of(known(), torch.arange(400) < 50)
    assert len(part.item) == 50
    assert adherence_scores(part, 5, 0)["tone"].value == 0


def test_a_mean_is_the_mean():
    assert mean(torch.tensor([1.0, 2.0, 6.0, 3.0]), 5, 0).value == 3
