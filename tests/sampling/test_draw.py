"""What a sampling stage draws: the params reach the chain, and images and trajectories are in order."""

import pytest
import torch
from analytic import SHAPE, Known, Linear

from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.images import denormalize_img, to_uint8
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.run.compute import Compute
from ddpm.run.seeding import generator
from ddpm.run.stage import StageRun
from ddpm.run.tracking.record import Run
from ddpm.sampling.chain import sample_steps
from ddpm.sampling.denoiser import NetworkDenoiser
from ddpm.sampling.draw import SampleModel, draw_samples
from ddpm.sampling.sampler import SAMPLERS
from ddpm.sampling.samplers.ancestral import AncestralOptions
from ddpm.sampling.spacing import SPACINGS, timesteps

PARAMS = {
    "n_samples": 7,
    "n_trajectories": 2,
    "batch_size": 3,
    "sampler": "ancestral",
    "n_steps": 5,
    "spacing": "karras",
    "clip_sample": True,
    "guidance_scale": 1.0,
    "ancestral": {"variance": "fixed_small"},
}


def drawn(model, **changes):
    stage = StageRun("sample_tiny", SampleModel(**PARAMS | changes), 4, Compute(), Run())
    return stage, draw_samples(stage, model)


@pytest.mark.parametrize("clip_sample", [True, 0.95])
def test_samples_and_trajectories_follow_params(clip_sample):
    model = Linear(20, a=0.6)
    stage, found = drawn(model, clip_sample=clip_sample)
    steps = timesteps(model.noise_schedule, 5, "karras")
    assert found["num_steps"].tolist() == steps.tolist()[::-1]
    for i in range(7):
        streams, options = [generator(stage.seed, "noise", i)], AncestralOptions(variance="fixed_small")
        chain = list(sample_steps(model, streams, steps, options=options, clip_sample=clip_sample))
        denoise = NetworkDenoiser(model, steps, clip_sample)
        estimates = [*(denoise(x, left)[0] for x, left in zip(chain, range(5, 0, -1), strict=False)), chain[-1][0]]
        pixels = [to_uint8(denormalize_img(x[0])) for x in chain]
        assert torch.equal(found["samples"][i], pixels[-1])
        if i < 2:
            assert torch.equal(found["steps"][:, i], torch.stack(pixels))
            assert torch.equal(found["estimates"][:, i], to_uint8(denormalize_img(torch.stack(estimates))))
    assert found["samples"].shape == (7, *SHAPE)
    assert found["steps"].shape == (6, 2, *SHAPE)
    assert found.keys() == {"samples", "steps", "estimates", "num_steps"}


@pytest.mark.parametrize(
    "change",
    [
        {"spacing": "even"},
        {"n_steps": 6},
        {"clip_sample": False},
        {"ancestral": {"variance": "fixed_large"}},
        {"sampler": "ddim"},
        {"sampler": "ddim", "ddim": {"eta": 0.5}},
    ],
)
def test_params_change_samples(change):
    samples = [drawn(Linear(20, a=0.6), **changes)[1]["samples"] for changes in ({}, change)]
    assert not torch.equal(*samples)
    if "ddim" in change:
        plain = drawn(Linear(20, a=0.6), sampler="ddim")[1]["samples"]
        assert not torch.equal(plain, samples[1])


def test_batch_size_does_not_change_samples():
    found = [drawn(Linear(20), batch_size=size)[1]["samples"] for size in (1, 3, 7)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_classes_are_drawn_round_robin_and_saved_with_samples():
    conditioning = {"name": "labels", "dropout": 0.1}
    model = Unet(UnetConfig((1, 4, 4), 8, (1,), 2, 20, heads=2, conditioning=conditioning, n_classes=3)).eval()
    model.noise_schedule = NoiseSchedule(20)
    _, plain = drawn(model, batch_size=2)
    assert plain["labels"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert torch.equal(plain["cond"], plain["labels"])
    _, guided = drawn(model, batch_size=2, guidance_scale=4.0)
    assert not torch.equal(plain["samples"], guided["samples"])
    with torch.no_grad():  # only class 2 changes: an image depends on its own class
        model.conditioning.embedding.weight[2] = model.conditioning.embedding.weight[1] + 3
    _, other = drawn(model, batch_size=2)
    same = [torch.equal(a, b) for a, b in zip(plain["samples"], other["samples"], strict=True)]
    assert same == [label != 2 for label in plain["labels"].tolist()]


def test_recorded_estimates_are_guided_and_of_their_own_class():
    """With a guidance scale of 3, estimates are three times those of the class, since they are 0 without a label."""
    _, found = drawn(Known(0.1, -0.2), batch_size=1, guidance_scale=3.0)
    expected = to_uint8(denormalize_img(torch.tensor([0.3, -0.6]).reshape(2, 1, 1, 1)))
    assert torch.equal(found["estimates"], expected.expand_as(found["estimates"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_trajectories": 8}, "n_trajectories is 8; it cannot exceed n_samples, 7"),
        ({"sampler": "dpmpp_3m", "n_steps": 2}, "n_steps is 2; sampler dpmpp_3m needs at least 3"),
        ({"sampler": "none such"}, f"'none such' is not a sampler; allowed: {', '.join(SAMPLERS)}"),
        ({"spacing": "none such"}, f"'none such' is not a spacing; allowed: {', '.join(SPACINGS)}"),
    ],
)
def test_sample_model_rejects_invalid_params(change, message):
    with pytest.raises(ValueError, match=message):
        SampleModel(**PARAMS | change)


def test_decoder_is_applied_to_samples_steps_and_estimates():
    """With a decoder that halves, all of them are halved."""
    model = Linear(20, a=0.6)
    stage, _ = drawn(model, clip_sample=False)
    found = draw_samples(stage, model, lambda x: x / 2)
    steps = timesteps(model.noise_schedule, 5, "karras")
    denoise = NetworkDenoiser(model, steps)
    for i in range(2):
        streams, options = [generator(stage.seed, "noise", i)], AncestralOptions(variance="fixed_small")
        chain = list(sample_steps(model, streams, steps, options=options))
        estimates = [*(denoise(x, left) for x, left in zip(chain, range(5, 0, -1), strict=False)), chain[-1]]
        pixels = [to_uint8(denormalize_img(x[0] / 2)) for x in chain]
        assert torch.equal(found["samples"][i], pixels[-1])
        assert torch.equal(found["steps"][:, i], torch.stack(pixels))
        assert torch.equal(found["estimates"][:, i], to_uint8(denormalize_img(torch.cat(estimates) / 2)))
