"""Splits with captions: which images are withheld, and which settings are rejected."""

import pytest
import torch
from pydantic import ValidationError

from ddpm.captions.grammar import parse
from ddpm.captions.split import Captions, caption_split, load_split, save_split, summary
from ddpm.captions.vocabulary import captions
from ddpm.data.dataset import ImageDataset
from ddpm.errors import UserError

NAMES = tuple("0123456789")


def dresses():
    """A dark narrow one, a dark wide one, a light wide one."""
    images = torch.zeros(3, 1, 28, 28, dtype=torch.uint8)
    for image, grey, width in zip(images, (60, 60, 240), (8, 20, 20), strict=True):
        image[:, :, 14 - width // 2 : 14 + width // 2] = grey
    return ImageDataset(images, torch.full((3,), 3), NAMES)


def test_withheld_pairs_are_marked_unseen(tmp_path):
    split = caption_split(dresses(), [("dark", "wide"), ("light", "narrow")])
    assert split.seen.tolist() == [True, False, True]
    assert [parse(text).item for text in captions(split.tokens)] == [3, 3, 3]
    save_split(tmp_path / "split.safetensors", split)
    assert all(map(torch.equal, load_split(tmp_path / "split.safetensors"), split))


def test_summary_counts_values():
    split = caption_split(dresses(), [("dark", "wide")])
    found = summary({"train": split})
    assert found["withheld"] == {"train": 1}
    counts = {value: n for value, n in found["training images by value"].items() if n}
    assert counts == {"dark": 2, "light": 1, "plain": 3, "narrow": 1, "wide": 2}


def test_caption_split_rejects_other_classes():
    for dataset in (ImageDataset(dresses().images), ImageDataset(dresses().images, dresses().labels, ("a", "b"))):
        with pytest.raises(UserError, match="captions need the 10 classes of FashionMNIST"):
            caption_split(dataset, [])


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (["dark", "round"], "'round' is not an attribute's value; allowed: dark, light, plain"),
        (["dark", "light"], "no class is measured for both dark and light"),
        (["wide", "heeled"], "no class is measured for both wide and heeled"),
        (["dark"], "Field required"),
    ],
)
def test_captions_rejects_invalid_withheld_pairs(pair, message):
    with pytest.raises(ValidationError, match=message):
        Captions(withheld=[pair], n_shown=3)
