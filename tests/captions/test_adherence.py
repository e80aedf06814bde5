"""Adherence of images that match a caption, and of images with one wrong attribute."""

import torch

from ddpm.captions.adherence import adherence

TEE, DRESS = 0, 3


def garment(grey, width):
    image = torch.zeros(1, 28, 28, dtype=torch.uint8)
    image[..., 14 - width // 2 : 14 + width // 2] = grey
    return image


def test_adherence_requires_class_and_every_stated_attribute():
    dark_wide, light_wide = garment(60, 20), garment(250, 20)
    images = torch.stack([dark_wide, light_wide, dark_wide, dark_wide, light_wide])
    captions = ["a dark wide tee", "a dark wide tee", "a dark wide tee", "a tee", "a plain wide top that is dark"]
    found = adherence(images, captions, torch.tensor([TEE, TEE, DRESS, TEE, TEE]))
    assert found.whole.tolist() == [True, False, False, True, False]
    assert found.shares == {"whole": 2 / 5, "class": 4 / 5, "tone": 2 / 4, "pattern": 1, "width": 1}


def test_unstated_attributes_are_ignored():
    images = torch.stack([garment(60, 10), garment(250, 20)])
    found = adherence(images, ["a dress"] * 2, torch.tensor([DRESS, DRESS]))
    assert found.whole.all()
    assert not found.said.any()


def test_attribute_without_rule_for_class_never_matches():
    found = adherence(garment(60, 10)[None], ["a heeled dress"], torch.tensor([DRESS]))
    assert found.whole.tolist() == [False]
