"""Latents in place of images: inputs of networks, inputs of conditionings, and previews."""

import torch
from project import REPO
from ten_steps import PARAMS

from ddpm.conditioning.kinds.labels import Labels
from ddpm.data.dataset import ImageDataset
from ddpm.latent.latents import latents_of
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.run.seeding import global_stream
from ddpm.run.yaml import load_yaml
from ddpm.sampling.chain import sample_steps
from ddpm.training.fit import fit, preview
from ddpm.training.train_model import TrainModel, build_model, examples, held_out_examples


def dataset(n=12):
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n, 1, 8, 8), dtype=torch.uint8, generator=draw)
    origin = ImageDataset(images, (torch.arange(n) % 3).to(torch.uint8), ("a", "b", "c"))
    return latents_of(origin, 3 * torch.randn(n, 5, 4, 2, generator=draw)), origin


def test_x0_is_unscaled_latents_and_pictures_are_images():
    latents, origin = dataset()
    assert torch.equal(latents.x0, latents.images)
    assert latents.x0.abs().max() > 3  # beyond [-1, 1]
    assert torch.equal(latents.pictures, origin.x0)
    assert torch.equal(origin.pictures, origin.x0)
    assert (latents.img_shape, latents.class_names) == ((5, 4, 2), origin.class_names)
    some = latents[-4:]
    assert torch.equal(some.x0, latents.x0[-4:])
    assert torch.equal(some.pictures, origin.x0[-4:])
    assert torch.equal(some.labels, origin.labels[-4:])


def test_conditioning_is_fitted_on_images_not_latents(monkeypatch):
    latents, origin = dataset()
    values = load_yaml(REPO / "doors/latent/params.yaml")["train_latent"]
    unet = {"channels": 8, "dim_mults": [1, 2], "groups": 2, "heads": 2}
    params = TrainModel.model_validate(values | {"conditioning": "labels", "unet": unet})
    seen, real = [], Labels.encode

    def encode(self, images, labels):
        seen.append(images)
        return real(self, images, labels)

    monkeypatch.setattr(Labels, "fit", lambda _, images, __: seen.append(images))
    monkeypatch.setattr(Labels, "encode", encode)
    model = build_model(params, latents, seed=0)
    assert model.img_shape == (5, 4, 2)
    train, unseen = examples(model, latents), held_out_examples(model, latents, 3)
    assert [len(images) for images in seen] == [12, 12, 3]
    assert all(torch.equal(images, origin.x0[-len(images) :]) for images in seen)
    assert torch.equal(train.images, latents.images)
    assert torch.equal(unseen.images, latents.images[-3:])


def network():
    with global_stream(0, "init"):
        return Unet(UnetConfig((5, 4, 2), 8, (1, 2), groups=2, heads=2, max_steps=50))


def decode(latents):
    """Half the channels' mean, twice as large."""
    return latents.mean(1, keepdim=True).repeat_interleave(2, 2).repeat_interleave(2, 3) / 2


def test_decoding_previews_does_not_change_training():
    latents, _ = dataset()
    train, unseen = (examples(model, latents) for model in (network(), network()))
    models = network(), network()
    plain, shown = (
        fit(model, PARAMS, train, unseen, seed=3, **extra)
        for model, extra in zip(models, ({}, {"decode": decode}), strict=True)
    )
    assert plain.previews.shape[2:] == (5, 2 * 4, 3 * 2)
    assert shown.previews.shape[2:] == (1, 2 * 8, 3 * 4)
    assert plain.eval_loss == shown.eval_loss
    for first, second in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        assert torch.equal(first, second)
    images = ((decode(unseen.images[:2]) + 1) / 2).clamp(0, 1)
    assert torch.allclose(preview(models[1], unseen.images[:2], 3, decode=decode)[:, :, :8, 8:], images)


def test_sampled_latents_have_the_latent_shape():
    model = network()
    fit(model, PARAMS, examples(model, dataset()[0]), seed=3)
    streams = [torch.Generator().manual_seed(i) for i in range(2)]
    *_, x = sample_steps(model, streams, torch.tensor([0, 20, 50]))
    assert x.shape == (2, 5, 4, 2)
