"""`python -m ddpm.draw --decoder` decodes samples of a latent diffusion model."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm import NoiseSchedule, Unet, UnetConfig, denormalize_img, sample, save_model
from ddpm.draw import main
from ddpm.images import to_uint8
from ddpm.latent.autoencoder import Autoencoder, AutoencoderConfig, save_autoencoder
from ddpm.run.seeding import global_stream


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A network of 3x4x6 latents and the autoencoder of 8x12 images, saved in the working folder."""
    monkeypatch.chdir(tmp_path)
    with global_stream(0, "init"):
        network = Unet(UnetConfig((3, 4, 6), channels=8, dim_mults=(1, 2), groups=2, heads=1, max_steps=10))
        autoencoder = Autoencoder(AutoencoderConfig((1, 8, 12), 2, 3, 8, 2, {"name": "kl", "weight": 0.1}))
        autoencoder.scale.fill_(0.7)
    network.noise_schedule = NoiseSchedule(10)
    save_model(Path("latent.safetensors"), network, {})
    save_autoencoder(Path("autoencoder.safetensors"), autoencoder)
    return network.eval(), autoencoder.eval()


def draw(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["ddpm.draw", "latent.safetensors", "images", "-n", "2", "--n-steps", "4", *words])
    main()


def test_decoded_samples_are_written(models, monkeypatch):
    """Unclipped samples, divided by the scale, through the decoder."""
    network, autoencoder = models
    draw(monkeypatch, "--seed", "3", "--decoder", "autoencoder.safetensors")
    latents = sample(network, 2, generator=torch.Generator().manual_seed(3), n_steps=4)
    with torch.no_grad():
        expected = to_uint8(denormalize_img(autoencoder.decoder(latents / 0.7)))[:, 0].numpy()
    for i, pixels in enumerate(expected):
        with Image.open(f"images/{i}.png") as image:
            assert np.abs(np.asarray(image).astype(int) - pixels).max() <= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "it generates latents or embeddings with 4 channels, not images"),
        (("--decoder", "latent.safetensors"), "latent.safetensors: not an autoencoder of this version"),
        (
            ("--decoder", "autoencoder.safetensors"),
            "decoder: it decodes latents of shape (3, 4, 6); those of this model",
        ),
        (("--decoder", "missing.safetensors"), "missing.safetensors: "),
    ],
)
@pytest.mark.usefixtures("models")
def test_other_latents_and_files_are_rejected_in_one_line(words, said, monkeypatch, capsys):
    other = Unet(UnetConfig((4, 4, 6), channels=8, dim_mults=(1, 2), groups=2, heads=1, max_steps=10))
    other.noise_schedule = NoiseSchedule(10)
    save_model(Path("latent.safetensors"), other, {})
    with pytest.raises(SystemExit) as ended:
        draw(monkeypatch, *words)
    [line] = capsys.readouterr().err.splitlines()
    assert (ended.value.code, line.startswith("draw: "), said in line) == (2, True, True)
    assert not Path("images").exists()
