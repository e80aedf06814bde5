"""Enlarged samples: the input of the super-resolution network."""

import pytest
import torch
from analytic import Linear

from ddpm.conditioning.kinds.low_resolution import scales
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.run.seeding import generator, global_stream
from ddpm.sampling.cascade import SampleSuper, enlarge, noised

N, LOW = 3000, (1, 2, 3)


def network():
    conditioning = {"name": "low_resolution", "factor": 2, "max_level": 1.0, "dropout": 0.0}
    with global_stream(0, "init"):
        model = Unet(UnetConfig((1, 4, 6), 8, (1,), 2, 20, heads=2, conditioning=conditioning)).eval()
    model.noise_schedule = NoiseSchedule(20)
    return model


def images(n):
    return torch.rand(n, *LOW, generator=generator(0, "low")) * 2 - 1


@pytest.mark.parametrize("level", [0.0, 0.2, 1.0])
def test_noised_images_have_requested_noise_level(level):
    low = images(1).expand(N, *LOW)
    cond = noised(network(), low, level, seed=4)
    assert (cond[:, -1] == torch.tensor(level)).all()
    alpha, sigma = (float(scale) for scale in scales(torch.tensor(level, dtype=torch.float64)))
    residue = (cond[:, :-1] - alpha * low).double()
    # Six pixels: five standard errors, and 1e-6 for float32.
    assert (residue.mean(0).abs() <= 5 * sigma / N**0.5 + 1e-6).all()
    assert ((residue.var(0) - sigma**2).abs() <= 5 * sigma**2 * (2 / N) ** 0.5 + 1e-6).all()


def test_noise_depends_on_seed_and_not_on_number_of_images():
    model, low = network(), images(4)
    found = noised(model, low, 0.5, 0)
    assert torch.equal(found[:2], noised(model, low[:2], 0.5, 0))
    assert not torch.equal(found, noised(model, low, 0.5, 1))
    assert len(noised(model, low[:0], 0.5, 0)) == 0


def test_noised_clamps_low_resolution_images():
    low = torch.tensor([1.3, -1.2, 0.5, 0.0, 1.0, -1.0]).reshape(1, *LOW)
    assert torch.equal(noised(network(), low, 0.0, 0)[:, :-1], low.clamp(-1, 1))


def test_enlarged_image_depends_on_its_own_low_resolution_image():
    model, low = network(), images(3)
    with torch.no_grad():  # at initialisation the head is too weak to show conditioning
        model.conv_out.weight.mul_(30)
    options = {"n_steps": 4, "clip_sample": True}
    found = enlarge(model, low, 0.1, 0, **options)
    assert found.shape == (3, 1, 4, 6)
    assert torch.equal(found, enlarge(model, low, 0.1, 0, **options))
    changed = torch.cat((low[:2], -low[2:]))
    other = enlarge(model, changed, 0.1, 0, **options)
    assert torch.equal(found[:2], other[:2])
    assert (found[2] - other[2]).abs().max() > 1e-3


def test_seed_determines_noise_of_low_resolution_images():
    """DDIM from a given start draws no other noise."""
    model, low, how = network(), images(2), {"sampler": "ddim", "n_steps": 2, "start": torch.zeros(2, 1, 4, 6)}
    with torch.no_grad():  # at initialisation the head is too weak to show conditioning
        model.conv_out.weight.mul_(30)
    assert not torch.equal(*(enlarge(model, low, 0.5, seed, **how) for seed in (0, 1)))
    assert torch.equal(*(enlarge(model, low, 0.0, seed, **how) for seed in (0, 1)))


@pytest.mark.parametrize(
    ("model", "low", "level", "message"),
    [
        (Linear(), torch.zeros(1, *LOW), 0.1, "this model does not take low-resolution images"),
        (network(), torch.zeros(1, 1, 4, 6), 0.1, r"images have shape \(1, 4, 6\); this model takes \(1, 2, 3\)"),
        (network(), torch.zeros(1, *LOW), 1.5, r"level is 1\.5; it must be in 0\.\.1"),
        (network(), torch.zeros(1, *LOW), -0.5, r"level is -0\.5; it must be in 0\.\.1"),
    ],
)
def test_enlarge_rejects_wrong_model_shape_or_level(model, low, level, message):
    with pytest.raises(ValueError, match=message):
        enlarge(model, low, level)


@pytest.mark.parametrize(
    "change", [{"level": 1.01}, {"level": -0.01}, {"guidance_scale": 0.9}, {"guidance_scale": 101}]
)
def test_sample_super_rejects_params_out_of_range(change):
    params = {"n_samples": 2, "n_trajectories": 1, "batch_size": 2, "sampler": "ddim", "n_steps": 3, "spacing": "even"}
    params |= {"clip_sample": True, "guidance_scale": 1.0, "level": 0.1}
    SampleSuper(**params)
    with pytest.raises(ValueError, match=next(iter(change))):
        SampleSuper(**params | change)
