"""The attribute rules, on images drawn to show a value and on items between two values."""

import pytest
import torch

from ddpm.captions.attributes import ATTRIBUTES, NAMES, RULES, VALUES, measured, shows

TEE, SANDAL, SHIRT, BOOT = 0, 5, 6, 9


def garment(grey, width=14, stripes=0):
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[..., 14 - width // 2 : 14 + width // 2] = grey
    image[..., ::2, :] = torch.where(image[..., ::2, :] > 0, image[..., ::2, :] - stripes, 0)
    return image


def values(image, item):
    [row] = measured(image, torch.tensor([item])).tolist()
    return {name: ATTRIBUTES[name][number - 1] for name, number in zip(NAMES, row, strict=True) if number}


def test_measured_values_match_drawn_garments():
    assert values(garment(60, width=10), TEE) == {"tone": "dark", "pattern": "plain", "width": "narrow"}
    assert values(garment(250, width=20, stripes=80), TEE) == {"tone": "light", "pattern": "patterned", "width": "wide"}
    assert values(garment(60, width=24), SHIRT) == {"tone": "dark", "pattern": "plain", "sleeves": "long-sleeved"}
    assert values(garment(60, width=14), SHIRT) == {"tone": "dark", "pattern": "plain", "sleeves": "short-sleeved"}


def test_values_between_thresholds_are_undetermined():
    assert values(garment(147, width=15), TEE) == {"pattern": "plain"}


def test_boot_and_sandal_heels_are_measured():
    boot = torch.full((1, 1, 28, 28), 200, dtype=torch.uint8)
    assert values(boot, BOOT) == {"tone": "light", "length": "tall", "heel": "flat"}
    boot[..., 24:, 8:22] = 0
    assert values(boot, BOOT)["heel"] == "heeled"
    sandal = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    sandal[..., 16:26, :] = 200
    assert values(sandal, SANDAL)["heel"] == "flat"


def test_only_attributes_of_the_class_are_measured():
    images = torch.randint(256, (50, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    items = torch.arange(50) % len(RULES)
    found = measured(images, items)
    for item, rules in enumerate(RULES):
        without = [column for column, name in enumerate(NAMES) if name not in rules]
        assert (found[items == item][:, without] == 0).all()
        assert all(rule.low < rule.high for rule in rules.values())


@pytest.mark.parametrize(("pair", "expected"), [(("dark", "wide"), [True, False]), (("light", "wide"), [False, False])])
def test_shows_requires_both_values_of_a_pair(pair, expected):
    rows = torch.zeros(2, len(NAMES), dtype=torch.int64)
    for value in ("dark", "wide"):
        column, number = divmod(VALUES.index(value), 2)
        rows[0, column] = number + 1
    assert shows(rows, [pair]).tolist() == expected
    assert shows(rows, []).tolist() == [False, False]
