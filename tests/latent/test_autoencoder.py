"""The autoencoder: shapes for all factors and odd sizes, padding, its file, and latents of variance 1."""

import json

import pytest
import torch
from safetensors import safe_open

from ddpm.data.dataset import ImageDataset, to_x0_range
from ddpm.errors import UserError
from ddpm.latent.autoencoder import (
    BATCH,
    Autoencoder,
    AutoencoderConfig,
    decode_latents,
    encode_images,
    load_autoencoder,
    reconstructed,
    save_autoencoder,
)
from ddpm.latent.bottleneck import BOTTLENECKS
from ddpm.latent.fit import set_scale
from ddpm.run.files import save_tensors
from ddpm.run.seeding import global_stream

KINDS = {"kl": {"weight": 0.0}, "vq": {"n_codes": 16, "commitment": 0.25}, "none": {}}


def autoencoder(factor=4, img_shape=(1, 28, 28), kind="kl", channels=3):
    config = AutoencoderConfig(img_shape, factor, channels, 8, 2, {"name": kind, **KINDS[kind]})
    with global_stream(0, "init"):
        return Autoencoder(config)


def pictures(n=3, shape=(1, 28, 28)):
    return torch.randint(256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def test_every_bottleneck_is_covered():
    assert KINDS.keys() == set(BOTTLENECKS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("img_shape", [(1, 28, 28), (3, 27, 25), (1, 8, 33)])
def test_latents_are_downscaled_and_decode_to_the_image_shape(kind, factor, img_shape):
    model, images = autoencoder(factor, img_shape, kind), pictures(2, img_shape)
    latents = encode_images(model, images, seed=0)
    size = [-(-side // factor) for side in img_shape[1:]]
    assert latents.shape == (2, *model.config.latent_shape) == (2, 3, *size)
    assert decode_latents(model, latents).shape == images.shape
    made, penalty = model(to_x0_range(images), torch.Generator().manual_seed(0))
    assert made.shape == images.shape
    assert penalty.shape == (2,)


def test_factor_1_is_the_identity():
    model, images = autoencoder(1, kind="none", channels=1), pictures()
    latents = encode_images(model, images, seed=0)
    assert torch.equal(latents, to_x0_range(images))
    assert torch.equal(reconstructed(model, images, seed=0), images)
    assert list(model.parameters()) == []
    set_scale(model, ImageDataset(images), seed=0)
    assert encode_images(model, images, 0).std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(reconstructed(model, images, seed=0), images)


def test_odd_sizes_are_padded_with_black_and_cropped():
    """A model of 27 x 25 images matches one of 28 x 28 on the same images with a black border."""
    odd, even = autoencoder(4, (1, 27, 25)), autoencoder(4)
    even.load_state_dict(odd.state_dict())
    images = pictures(2, (1, 27, 25))
    padded = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    padded[..., :27, :25] = images
    latents = encode_images(odd, images, seed=0)
    assert torch.equal(latents, encode_images(even, padded, seed=0))
    assert torch.equal(decode_latents(odd, latents), decode_latents(even, latents)[..., :27, :25])


@pytest.mark.parametrize("kind", KINDS)
def test_set_scale_gives_unit_variance_and_keeps_reconstructions(kind):
    model, train = autoencoder(kind=kind), ImageDataset(pictures(64))
    before = reconstructed(model, train.images, seed=0).int()
    set_scale(model, train, seed=0)
    latents = encode_images(model, train.images, seed=0)
    assert latents.std(correction=0).item() == pytest.approx(1, rel=1e-5)
    assert model.scale.item() != pytest.approx(1, rel=1e-3)
    after = reconstructed(model, train.images, seed=0).int()
    assert (after - before).abs().max() <= 1  # one level: rounding of the scale
    set_scale(model, train, seed=0)  # again: the old scale does not count
    assert encode_images(model, train.images, 0).std(correction=0).item() == pytest.approx(1, rel=1e-5)


def test_scale_is_that_of_the_first_training_images(monkeypatch):
    monkeypatch.setattr("ddpm.latent.fit.N_SCALE", 8)
    model, images = autoencoder(1, kind="none", channels=1), pictures(16)
    images[8:] = 0
    set_scale(model, ImageDataset(images), seed=0)
    assert encode_images(model, images[:8], 0).std(correction=0).item() == pytest.approx(1, rel=1e-5)


def test_encode_noise_depends_on_the_seed():
    model, images = autoencoder(), pictures()
    first, same, other = (encode_images(model, images, seed) for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    repeated = encode_images(model, images[:1].expand(2 * BATCH, -1, -1, -1), 0)
    assert not torch.equal(repeated[:BATCH], repeated[BATCH:])


def test_forward_matches_encode_and_decode():
    """Without noise in the latents, as with vq."""
    model, images = autoencoder(kind="vq").eval(), pictures()
    made, _ = model(to_x0_range(images), torch.Generator())
    again = decode_latents(model, encode_images(model, images, seed=0))
    torch.testing.assert_close(made, again, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_save_load_round_trip(kind, tmp_path):
    model, images = autoencoder(kind=kind), pictures()
    set_scale(model, ImageDataset(images), seed=0)
    save_autoencoder(tmp_path / "a.safetensors", model)
    loaded = load_autoencoder(tmp_path / "a.safetensors")
    assert loaded.config == model.config
    assert torch.equal(reconstructed(loaded, images, 0), reconstructed(model, images, 0))
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["config"])["factor"] == 4


def test_load_rejects_files_that_are_not_autoencoders(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, weight=torch.zeros(3))
    with pytest.raises(UserError, match=r"a\.safetensors: not an autoencoder of this version"):
        load_autoencoder(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 6}, "channels is 6; it must be a multiple of twice groups, 4"),
        ({"factor": 8, "img_shape": (1, 28, 7)}, "factor is 8; images are 28x7"),
        ({"factor": 1}, "bottleneck is kl; with factor 1 images are their own latents, so it must be none"),
        (
            {"factor": 1, "bottleneck": {"name": "none"}},
            "latent_channels is 3; with factor 1 images are their own latents, so it must be their channels, 1",
        ),
    ],
)
def test_config_rejects_invalid_values(changes, message):
    values = {"img_shape": (1, 28, 28), "factor": 4, "latent_channels": 3, "channels": 8, "groups": 2}
    with pytest.raises(ValueError, match=message):
        AutoencoderConfig(**values | {"bottleneck": {"name": "kl", "weight": 0.0}} | changes)


def test_reconstructions_are_rounded_to_8_bits():
    model, images = autoencoder(), pictures()
    made = reconstructed(model, images, seed=0)
    exact = 127.5 * (decode_latents(model, encode_images(model, images, seed=0)).clamp(-1, 1) + 1)
    assert made.dtype == torch.uint8
    assert (made - exact).abs().max() <= 0.5 + 1e-4  # float32 rounding of values up to 255
