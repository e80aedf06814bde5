"""Samples by caption and scale, and a sweep of two kinds of guidance: each is what `draw_given` draws for it."""

import pytest
import torch

from ddpm.captions.prompts import Prompts
from ddpm.captions.vocabulary import captions, tokens
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.run.compute import Compute
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import derive_seed, global_stream
from ddpm.run.stage import StageRun
from ddpm.run.tracking.record import Run
from ddpm.sampling.given import draw_given
from ddpm.sampling.prompted import SampleCaptions, draw_prompts
from ddpm.sampling.sweep import Sweep, draw_sweep

DRAWING = {"batch_size": 4, "sampler": "ddim", "n_steps": 4, "spacing": "even", "clip_sample": True}
GRID = {"captions": ["a dark dress", "a boot"], "scales": [1.0, 6.0], "n": 2}
PARAMS = SampleCaptions(**DRAWING, n_seen=2, n_withheld=1, guidance_scale=3.0, grid=GRID)
PROMPTS = Prompts(tokens(["a bag", "a pale boot", "trousers"]), torch.tensor([True, True, False]), torch.arange(3))


@pytest.fixture
def model():
    with global_stream(0, "init"):
        words = {"name": "bag_of_words", "dropout": 0.1}
        model = Unet(UnetConfig((1, 4, 4), 8, (1,), 2, 10, heads=2, conditioning=words, n_classes=10)).eval()
    model.noise_schedule, model.prediction = NoiseSchedule(10), "x0"
    with torch.no_grad():  # at initialisation the head is too weak to show conditioning
        model.conv_out.weight.mul_(2)
    return model


def stage_of(params):
    return StageRun("sample", params, 4, Compute(), Run())


def drawn(model, said, scale, stage):
    return draw_given(model, tokens(said), scale, stage.params, stage.seed, Compute(), Pieces(None))


def test_prompts_are_drawn_with_their_captions_and_scale(model):
    stage = stage_of(PARAMS)
    found = draw_prompts(stage, model, PROMPTS)
    assert torch.equal(found["samples"], drawn(model, captions(PROMPTS.tokens), 3.0, stage))
    assert all(torch.equal(found[name], rows) for name, rows in PROMPTS._asdict().items())


def test_grid_has_a_caption_per_row_and_a_scale_per_column(model):
    found = draw_prompts(stage_of(PARAMS), model, PROMPTS)["grid"]
    assert found.shape == (2, 2, 2, 1, 4, 4)
    for i, caption in enumerate(GRID["captions"]):
        for j, scale in enumerate(GRID["scales"]):
            seed = derive_seed(stage_of(PARAMS).seed, "grid", i)
            cell = draw_given(model, tokens([caption] * 2), scale, PARAMS, seed, Compute(), Pieces(None))
            assert torch.equal(found[i, j], cell)
    assert len(found.flatten(0, 1).unique(dim=0)) == 4


def test_rows_of_the_grid_differ_in_noise_and_columns_do_not(model):
    torch.nn.init.zeros_(model.conditioning.words.weight)  # now captions have no effect: only noise does
    found = draw_prompts(stage_of(PARAMS), model, PROMPTS)["grid"]
    assert torch.equal(found[:, 0], found[:, 1])
    assert len(found[:, 0].flatten(0, 1).unique(dim=0)) == 4


def test_film_shows_each_caption_of_the_grid_once(model):
    found, stage = draw_prompts(stage_of(PARAMS), model, PROMPTS), stage_of(PARAMS)
    assert captions(found["filmed"]) == GRID["captions"]
    own = PARAMS, derive_seed(stage.seed, "film"), Compute(), Pieces(None)
    assert torch.equal(found["steps"][-1], draw_given(model, tokens(GRID["captions"]), 3.0, *own))
    assert len(found["steps"]) == len(found["estimates"]) == len(found["num_steps"]) == 5


def test_sweep_guides_by_scale_then_by_likelihood_of_captions_with_the_same_noise(model):
    scales = {"scales": [1.0, 3.0], "clip_scales": [0.0, 1.0, 8.0]}
    stage = stage_of(Sweep(**DRAWING, n_samples=24, n_halves=2, **scales))
    said = ["a bag", "a pale boot", "trousers"] * 2
    seen = []

    def likelihood(rows):
        seen.append(rows)
        return lambda xt, _: xt.flatten(1).sum(1)

    found = list(draw_sweep(stage, model, likelihood, tokens(said)))
    methods = [("classifier-free", 1), ("classifier-free", 3), ("CLIP", 0), ("CLIP", 1), ("CLIP", 8)]
    assert [each[:2] for each in found] == methods
    free, guided, *steered = (images for *_, images in found)
    assert torch.equal(free, drawn(model, said, 1.0, stage))
    assert torch.equal(guided, drawn(model, said, 3.0, stage))
    assert not torch.equal(free, guided)
    assert torch.equal(torch.cat(seen), tokens(said * 3))
    assert torch.equal(steered[0], free)  # at scale 0 the network is unchanged, and guided by captions at scale 1
    means = [images.float().mean() for images in steered]  # the likelihood grows with every pixel
    assert means[0] < means[1] < means[2]
