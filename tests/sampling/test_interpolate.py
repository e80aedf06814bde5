"""From one image to another through a timestep (Ho et al. 2020, section 4.4)."""

import pytest
import torch
from analytic import SHAPE, Known, Linear

from ddpm import interpolate
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.exact.denoiser import ExactDenoiser
from ddpm.run.seeding import generator
from ddpm.sampling.arguments import noise_seeds, noise_streams
from ddpm.sampling.chain import sample_steps
from ddpm.sampling.samplers.ancestral import AncestralOptions
from ddpm.sampling.spacing import timesteps


def gradient(first, second):
    """A grey gradient image of 3x4 pixels between two values."""
    model = exact()
    return (first + (second - first) * model.g)[None]


def exact():
    return ExactDenoiser((1, 3, 4), NoiseSchedule(50, betas=SCHEDULES["cosine"](50)), "x0")


def test_interpolation_at_t_1_is_linear_in_pixels():
    """At t = 1 of 50 almost nothing is lost: the exact denoiser returns the mixture, itself a gradient."""
    ends = gradient(-0.8, 0.2), gradient(0.6, 0.4)
    found = interpolate(exact(), *ends, n=5, num_steps=1, generator=generator(0, "noise"))
    for image, weight in zip(found, torch.linspace(0, 1, 5), strict=True):
        assert (image - torch.lerp(*ends, weight.double())).abs().max() < 0.05


def test_interpolation_at_max_steps_forgets_both_images():
    """At T of a cosine schedule every mixture is the same noise, and becomes the same gradient."""
    found = interpolate(exact(), gradient(-0.8, 0.2), gradient(0.6, 0.4), n=4, num_steps=50)
    assert (found - found[:1]).abs().max() < 0.05


def test_interpolate_defaults():
    model, one = Linear(), torch.zeros(SHAPE)
    assert interpolate(model, one, one).shape == (9, *SHAPE)
    half = interpolate(model, one, one, num_steps=10, generator=generator(0, "noise"))
    assert torch.equal(interpolate(model, one, one, generator=generator(0, "noise")), half)
    shorter = interpolate(model, one, one, num_steps=10, n_steps=5, generator=generator(0, "noise"))
    assert not torch.equal(shorter, half)


@pytest.mark.parametrize(("clip_sample", "last"), [(False, [-0.5] * 3 + [2.0] * 2), (True, [-0.5] * 3 + [1.0] * 2)])
def test_interpolated_images_have_class_of_nearer_end_and_are_clipped(clip_sample, last):
    one = torch.zeros(SHAPE)
    found = interpolate(Known(2.0, -0.5), one, one, n=5, labels=torch.tensor([1, 0]), clip_sample=clip_sample)
    torch.testing.assert_close(found, torch.tensor(last).reshape(-1, 1, 1, 1).expand_as(found))


def test_interpolation_of_an_image_with_itself_is_its_reconstruction():
    """By Algorithm 2 with variance fixed_small. The generator seeds the noise of x_t, then that of the steps."""
    model, one = Linear(), torch.full(SHAPE, 0.3)
    options = {"n": 3, "num_steps": 20, "n_steps": 5}
    found, other = (interpolate(model, one, one, generator=generator(0, key), **options) for key in "ab")
    of_images, of_steps = noise_streams(noise_seeds(2, generator(0, "a")))
    last = model.noise_schedule.alpha_bar(20).item()
    xt = last**0.5 * one + (1 - last) ** 0.5 * torch.randn(SHAPE, generator=of_images)
    chain = {"options": AncestralOptions(variance="fixed_small"), "start": xt[None]}
    *_, x = sample_steps(model, [of_steps], timesteps(model.noise_schedule, 5), **chain)
    torch.testing.assert_close(found, x.expand_as(found))
    assert not torch.equal(found, other)
    assert not torch.equal(
        found, interpolate(model, one, one, generator=generator(0, "a"), spacing="karras", **options)
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"n": 1}, "n is 1; it must be at least 2"),
        ({"second": torch.zeros(3, 4, 4)}, r"first has shape \(3, 4, 5\), second \(3, 4, 4\); they must be equal"),
        ({"first": torch.full(SHAPE, 9.0)}, "the pair of images has values from 0 to 9"),
        ({"num_steps": 21}, r"num_steps is 21; it must be in 1\.\.20"),
        ({"labels": torch.tensor([0, 1])}, "labels is given; this model is unconditional"),
    ],
)
def test_interpolate_rejects_invalid_arguments(arguments, said):
    good = {"first": torch.zeros(SHAPE), "second": torch.zeros(SHAPE)}
    with pytest.raises(ValueError, match=said):
        interpolate(Linear(), **good | arguments)
