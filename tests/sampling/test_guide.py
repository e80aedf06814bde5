"""Samples by caption, scale and clipping: each cell is what the library draws for its values."""

import pytest
import torch

from ddpm.captions.vocabulary import captions, tokens
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.images import denormalize_img, to_uint8
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.run.compute import Compute
from ddpm.run.seeding import derive_seed, global_stream
from ddpm.run.stage import StageRun
from ddpm.run.tracking.record import Run
from ddpm.sampling.cascade import enlarge
from ddpm.sampling.guide import Guide, draw_guided
from ddpm.sampling.sample import sample

PARAMS = {
    "captions": ["a dark dress", "a boot"],
    "guidance_scales": [1.0, 6.0],
    "clip_samples": [False, True, 0.5],
    "n_each": 2,
    "sampler": "ddim",
    "ddim": {"eta": 0.5},
    "n_steps": 4,
    "level": 0.2,
}


def network(size, conditioning):
    with global_stream(0, "init"):
        config = UnetConfig((1, size, size), 8, (1,), 2, 10, heads=2, conditioning=conditioning, n_classes=10)
        model = Unet(config).eval()
    model.noise_schedule, model.prediction = NoiseSchedule(10), "x0"
    with torch.no_grad():  # at initialisation the head is too weak to show conditioning
        model.conv_out.weight.mul_(2)
    return model


def networks():
    base = network(4, {"name": "bag_of_words", "dropout": 0.1})
    return base, network(8, {"name": "low_resolution", "factor": 2, "max_level": 1.0, "dropout": 0.0})


def test_each_cell_matches_library_samples():
    base, large = networks()
    stage = StageRun("guide", Guide(**PARAMS), 4, Compute(), Run())
    found = draw_guided(stage, base, large)
    assert found["samples"].shape == (3, 2, 2, 2, 1, 8, 8)
    assert captions(found["tokens"]) == PARAMS["captions"]
    assert (found["guidance_scales"].tolist(), found["clip_samples"].tolist()) == ([1, 6], [0, 1, 0.5])
    options = {"sampler": "ddim", "eta": 0.5, "n_steps": 4}
    rows = tokens(["a dark dress", "a dark dress", "a boot", "a boot"])
    for i, clip in enumerate(PARAMS["clip_samples"]):
        for j, scale in enumerate(PARAMS["guidance_scales"]):
            stream = torch.Generator().manual_seed(derive_seed(stage.seed, "base"))
            low = sample(base, 4, generator=stream, cond=rows, guidance_scale=scale, clip_sample=clip, **options)
            expected = to_uint8(denormalize_img(enlarge(large, low, 0.2, stage.seed, clip_sample=True, **options)))
            assert torch.equal(found["samples"][i, j].flatten(0, 1), expected)
    cells = found["samples"].flatten(0, 1)
    assert len(cells.unique(dim=0)) == 6  # every value has an effect


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"captions": ["a dark"]}, "names no item"),
        ({"captions": ["a drees"]}, "unknown word 'drees'.*dress"),
        ({"captions": [""]}, "at least one word"),
        ({"guidance_scales": [0.5]}, "guidance_scales"),
        ({"guidance_scales": [1000.0]}, "guidance_scales"),
        ({"clip_samples": [1.5]}, "it must be false, true or a number between 0 and 1"),
        ({"level": 2.0}, "level"),
    ],
)
def test_guide_rejects_invalid_params(change, message):
    with pytest.raises(ValueError, match=message):
        Guide(**PARAMS | change)
