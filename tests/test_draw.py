"""`python -m ddpm.draw`: files that hold what the library draws."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm import NoiseSchedule, Unet, UnetConfig, denormalize_img, sample, save_model
from ddpm.draw import main
from ddpm.images import to_uint8
from ddpm.sampling.cascade import enlarge


@pytest.fixture(params=[1, 3])
def model(request, tmp_path, monkeypatch):
    """A network of grey or coloured images of 8x12 pixels, as a file in the working folder."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    config = {"channels": 8, "dim_mults": (1, 2), "groups": 2, "heads": 1}
    model = Unet(UnetConfig(img_shape=(request.param, 8, 12), max_steps=10, **config))
    model.noise_schedule = NoiseSchedule(10)
    save_model(tmp_path / "a model.safetensors", model, {})
    return model.eval()


def draw(*words):
    command = [sys.executable, "-m", "ddpm.draw", "a model.safetensors", "some images", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_files_hold_what_the_library_draws(model):
    done = draw("-n", "11", "--seed", "3", "--sampler", "unipc", "--n-steps", "4")
    assert (done.returncode, done.stderr) == (0, "")
    files = sorted(Path("some images").iterdir())
    assert [file.name for file in files] == [f"{i:02}.png" for i in range(11)]
    stream = torch.Generator().manual_seed(3)
    expected = to_uint8(
        denormalize_img(sample(model, 11, generator=stream, sampler="unipc", n_steps=4, clip_sample=True))
    )
    for file, pixels in zip(files, expected, strict=True):
        with Image.open(file) as image:
            found = np.asarray(image).reshape(8, 12, -1)
        assert (
            np.abs(found.astype(int) - pixels.permute(1, 2, 0).numpy()).max() <= 1
        )  # another process rounds otherwise


def enlarging(channels):
    """A super-resolution network for what `model` draws, as a file in the working folder."""
    torch.manual_seed(1)
    conditioning = {"name": "low_resolution", "factor": 2, "max_level": 1.0, "dropout": 0.0}
    config = {"channels": 8, "dim_mults": (1, 2), "groups": 2, "heads": 1, "conditioning": conditioning}
    model = Unet(UnetConfig(img_shape=(channels, 16, 24), max_steps=10, **config))
    model.noise_schedule = NoiseSchedule(10)
    save_model(Path("enlarge.safetensors"), model, {})
    return model.eval()


@pytest.mark.parametrize("model", [1], indirect=True)
def test_what_was_drawn_is_enlarged(model):
    large = enlarging(1)
    done = draw("-n", "2", "--seed", "3", "--n-steps", "4", "--enlarge", "enlarge.safetensors", "--level", "0.3")
    assert (done.returncode, done.stderr) == (0, "")
    low = sample(model, 2, generator=torch.Generator().manual_seed(3), n_steps=4, clip_sample=True)
    expected = to_uint8(denormalize_img(enlarge(large, low, 0.3, 3, n_steps=4, clip_sample=True)))
    for file, pixels in zip(sorted(Path("some images").iterdir()), expected, strict=True):
        with Image.open(file) as image:
            assert np.abs(np.asarray(image).astype(int) - pixels[0].numpy()).max() <= 1


@pytest.mark.parametrize("model", [1], indirect=True)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--enlarge", "a model.safetensors"), "draw: this model takes no low-resolution images"),
        (("--enlarge", "other.safetensors"), "draw: low has shape (16, 1, 8, 12); this model enlarges (n, 3, 8, 12)"),
        (("--enlarge", "enlarge.safetensors", "--level", "1.5"), "draw: level is 1.5; it must be in 0..1"),
        (("-n", "-1"), "draw: n_samples is -1; it must be at least 0"),
        (("--n-steps", "11"), "draw: n_steps is 11; it must be in 1..10"),
        (("--label", "3"), "draw: labels is given; this model is unconditional"),
        (("--caption", "a dark dress"), "draw: captions is given; this model is unconditional"),
        (("--sampler", "euler"), "invalid choice: 'euler'"),
    ],
)
@pytest.mark.usefixtures("model")
def test_what_is_not_allowed_is_one_line_and_no_file(words, said, monkeypatch, capsys):
    enlarging(3)
    Path("enlarge.safetensors").rename("other.safetensors")
    enlarging(1)
    monkeypatch.setattr(sys, "argv", ["ddpm.draw", "a model.safetensors", "some images", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not Path("some images").exists()
