"""Samples for a given conditioning: equal to those of the chain, and each batch steered by its captions."""

import pytest
import torch

from ddpm.conditioning.guidance import given
from ddpm.conditioning.steering import Steered
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.images import denormalize_img, to_uint8
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.run.compute import Compute
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import generator
from ddpm.sampling.chain import sample_steps
from ddpm.sampling.given import Drawing, draw_film, draw_given
from ddpm.sampling.samplers.ddim import DdimOptions
from ddpm.sampling.spacing import timesteps

HOW = {"batch_size": 2, "sampler": "ddim", "ddim": {"eta": 0.5}, "n_steps": 4, "spacing": "karras", "clip_sample": True}
PARAMS = Drawing(**HOW)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    text = {"name": "caption", "width": 8, "layers": 1, "heads": 2, "dropout": 0.2}
    shape = {"channels": 8, "dim_mults": (1,), "groups": 2, "max_steps": 10, "heads": 2, "n_classes": 10}
    model = Unet(UnetConfig((1, 4, 4), conditioning=text, **shape)).eval()
    model.noise_schedule = NoiseSchedule(10)
    return model


def drawn(model, cond, scale=2.0, params=PARAMS, steer=None):
    return draw_given(model, cond, scale, params, 5, Compute(), Pieces(None), steer)


def test_draw_given_matches_chain(model):
    cond = model.conditioning.draw(0, range(5))
    streams = [generator(5, "noise", i) for i in range(5)]
    steps, options = timesteps(model.noise_schedule, 4, "karras"), DdimOptions(eta=0.5)
    *_, x = sample_steps(given(model, cond, guidance_scale=2.0), streams, steps, "ddim", options, clip_sample=True)
    found = drawn(model, cond)
    # 8-bit: batches may round to the neighbouring level
    assert (found.int() - to_uint8(denormalize_img(x)).int()).abs().max() <= 1
    for change in ({"ddim": {"eta": 0.0}}, {"spacing": "even"}, {"clip_sample": False}, {"n_steps": 5}):
        other = drawn(model, cond, params=Drawing(**HOW | change))
        assert (found.int() - other.int()).abs().max() > 1, change


def test_prefix_is_unchanged_and_guidance_has_effect(model):
    cond = model.conditioning.draw(0, range(5))
    few = drawn(model, cond[:3])  # the second batch is cut: its sums may round to the neighbouring level
    assert (drawn(model, cond)[:3].int() - few.int()).abs().max() <= 1
    assert not torch.equal(drawn(model, cond, 1.0), drawn(model, cond, 4.0))


def test_film_runs_from_noise_to_the_images_of_draw_given(model):
    cond = model.conditioning.draw(0, range(2))  # as many as in a batch, so the images are equal
    film = draw_film(model, cond, 2.0, PARAMS, 5, Compute(), Pieces(None))
    noise = torch.stack([torch.randn(1, 4, 4, generator=generator(5, "noise", i)) for i in range(2)])
    assert torch.equal(film["steps"][0], to_uint8(denormalize_img(noise)))
    assert torch.equal(film["steps"][-1], drawn(model, cond))
    assert film["num_steps"].tolist() == timesteps(model.noise_schedule, 4, "karras").tolist()[::-1]


def test_estimates_of_a_film_are_those_of_an_ideal_network(model, monkeypatch):
    image = torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4)  # the only one in its training set: eps follows from x_t
    alpha_bars = model.noise_schedule.alpha_bars

    def eps(x, num_steps, *_):
        a = alpha_bars[num_steps - 1].reshape(-1, 1, 1, 1)
        return (x - a.sqrt() * image) / (1 - a).sqrt(), None

    monkeypatch.setattr(model, "with_variance", eps)
    film = draw_film(model, model.conditioning.draw(0, range(2)), 1.0, PARAMS, 5, Compute(), Pieces(None))
    assert film["estimates"].shape == film["steps"].shape == (5, 2, 1, 4, 4)
    # 8-bit: rounding errors of t = T, where little of the image is left, may reach the neighbouring level
    assert (film["estimates"].int() - to_uint8(denormalize_img(image)).int()).abs().max() <= 1


def test_each_batch_is_steered_by_its_own_captions(model):
    cond, seen = model.conditioning.draw(0, range(3)), []

    def steer(network, rows):
        seen.append(rows)
        return Steered(network, lambda xt, _: xt.flatten(1).sum(1), 1.0)

    steered = drawn(model, cond, 1.0, steer=steer)
    assert torch.equal(torch.cat(seen), cond)
    # The likelihood grows with every pixel, so images become lighter.
    assert steered.float().mean() > drawn(model, cond, 1.0).float().mean()
