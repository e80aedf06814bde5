"""`python -m ddpm.fill` keeps known pixels and rejects invalid input in one line."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm import NoiseSchedule, Unet, UnetConfig, inpaint, load_model, save_model
from ddpm.fill import main

TEXT = {"name": "inpainting", "width": 8, "layers": 1, "heads": 2, "dropout": 0.2}


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """An inpainting network, a picture of 12x8 pixels, and a mask of its left half."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    shape = {"channels": 8, "dim_mults": (1, 2), "groups": 2, "heads": 2, "max_steps": 5, "n_classes": 10}
    model = Unet(UnetConfig((1, 8, 12), conditioning=TEXT, **shape))
    model.noise_schedule = NoiseSchedule(5)
    save_model(tmp_path / "model.safetensors", model, {})
    grey = np.random.default_rng(0).integers(256, size=(8, 12), dtype=np.uint8)
    mask = np.zeros((8, 12), dtype=np.uint8)
    mask[:, :6] = 255
    for name, pixels in {"picture": grey, "mask": mask, "none": 0 * mask, "small": mask[:4]}.items():
        Image.fromarray(pixels).save(f"{name}.png")


def fill(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["ddpm.fill", "model.safetensors", *words])
    main()


def test_fill_changes_only_masked_pixels(monkeypatch):
    fill(monkeypatch, "picture.png", "mask.png", "out", "-n", "3", "--caption", "a dark dress", "--guidance-scale", "2")
    before = np.asarray(Image.open("picture.png"))
    found = [np.asarray(Image.open(f"out/{i}.png")) for i in range(3)]
    assert sorted(path.name for path in Path("out").iterdir()) == ["0.png", "1.png", "2.png"]
    assert all((image[:, 6:] == before[:, 6:]).all() for image in found)
    assert all((image[:, :6] != before[:, :6]).mean() > 0.9 for image in found)
    assert (found[0] != found[1]).any()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("picture.png", "small.png"), "fill: small.png: it has 12x4 pixels; this network's images have 12x8"),
        (("small.png", "mask.png"), "fill: small.png: it has 12x4 pixels"),
        (("picture.png", "none.png"), "fill: mask is False everywhere; it must be True where pixels are to be filled"),
        (("picture.png", "gone.png"), "fill: gone.png: No such file"),
        (("picture.png", "model.safetensors"), "fill: model.safetensors: it is not a picture"),
        (
            ("picture.png", "mask.png", "--caption", "a drees"),
            "unknown word 'drees'; the nearest known words are: dress",
        ),
        (("picture.png", "mask.png", "--guidance-scale", "0.5"), "guidance_scale is 0.5; it must be from 1 to 100"),
        (("picture.png", "mask.png", "-n", "0"), "fill: n is 0; it must be from 1 to 1000000"),
        (("picture.png", "mask.png", "--seed", "9" * 19), f"fill: seed is {'9' * 19}; it must be from 0 to"),
    ],
)
def test_invalid_options_are_rejected(words, said, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        fill(monkeypatch, *words[:2], "out", *words[2:])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not Path("out").exists()


def test_results_match_library_with_threshold_seed_and_caption(monkeypatch):
    """White is what is nearer to 255 than to 0."""
    mask = np.tile(np.array([0, 1, 127, 128, 254, 255], dtype=np.uint8), (8, 2))
    Image.fromarray(mask).save("mask.png")
    fill(monkeypatch, "picture.png", "mask.png", "out", "-n", "2", "--seed", "3", "--caption", "a dark dress")
    picture = torch.from_numpy(np.array(Image.open("picture.png")))
    expected = inpaint(
        load_model("model.safetensors"),
        (picture / 127.5 - 1).expand(2, 1, 8, 12),
        torch.from_numpy(mask > 127.5),
        torch.Generator().manual_seed(3),
        captions=["a dark dress"] * 2,
        clip_sample=True,
    )
    for i, image in enumerate(expected):
        found = np.array(Image.open(f"out/{i}.png")).astype(int)
        assert np.abs(found - (image[0].numpy().clip(-1, 1) + 1) * 127.5).max() <= 1
