"""Images with captions, from a door's folder: which are used to train and which to evaluate."""

from pathlib import Path

import torch

from ddpm.captions.split import CaptionedSplit, save_split
from ddpm.captions.vocabulary import tokens
from ddpm.data.dataset import ImageDataset, save_dataset
from ddpm.training.captioned import CAPTIONS, IMAGES, load_captioned


def test_load_captioned_excludes_withheld_and_keeps_last_held_out(tmp_path, monkeypatch):
    door = tmp_path / "doors/glide"
    door.mkdir(parents=True)
    monkeypatch.chdir(door)
    for split in IMAGES:
        images = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 1, 5, 5).contiguous()
        save_dataset(Path(IMAGES[split]), ImageDataset(images, torch.arange(4), tuple("0123456789")))
        said = tokens(["a dress", "a bag", "a coat", "a top"])
        save_split(Path(CAPTIONS[split]), CaptionedSplit(said, torch.zeros(4, 6).long(), torch.arange(4) != 1))
    train, held_out = load_captioned(2)
    assert train.images.images[:, 0, 0, 0].tolist() == [0, 2, 3]
    assert torch.equal(train.words, tokens(["a dress", "a coat", "a top"]))
    assert held_out.images.images[:, 0, 0, 0].tolist() == [2, 3]
    assert torch.equal(held_out.words, tokens(["a coat", "a top"]))
    assert len(load_captioned()[1].words) == 4
