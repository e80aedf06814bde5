"""Sampling embeddings of captions: the better of two by hand and in closed form, and what is saved."""

from math import pi, sqrt

import pytest
import torch

from ddpm.captions.prompts import Prompts
from ddpm.captions.vocabulary import captions, tokens
from ddpm.conditioning.kinds.clip_caption import ClipCaption
from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.networks.architectures.prior import Prior, PriorConfig
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.run.compute import Compute
from ddpm.run.seeding import derive_seed, global_stream
from ddpm.run.stage import StageRun
from ddpm.run.tracking.record import Run
from ddpm.sampling.prior import STRIP, SamplePrior, as_strips, best, draw_embeddings, draw_signals

SIZE, STEPS = 64, 100
TEXT = {"size": SIZE, "width": 8, "layers": 1, "heads": 2, "dropout": 0.1}


class GaussianPrior(DiffusionModel):
    """The exact prior of embeddings N(m, s^2 I): its prediction is E[x_0 | x_t]. m is orthogonal to the text's."""

    def __init__(self, s):
        super().__init__()
        with global_stream(0, "init"):
            self.conditioning = ClipCaption(img_shape=(SIZE, 1, 1), n_classes=10, embedding_size=8, **TEXT)
        self.img_shape, self.prediction, self.s = (SIZE, 1, 1), "x0", s
        self.noise_schedule = NoiseSchedule(STEPS, betas=SCHEDULES["cosine"](STEPS))

    def mean(self, rows):
        x, y = self.conditioning.embed(rows).unflatten(1, (-1, 2)).unbind(2)
        return torch.stack((-y, x), dim=2).flatten(1)

    def forward(self, images, num_steps, cond):
        alpha_bar = self.noise_schedule.alpha_bar(num_steps).to(images)[:, None, None, None]
        mean = self.mean(cond)[:, :, None, None]
        gain = self.s**2 * alpha_bar.sqrt() / (self.s**2 * alpha_bar + 1 - alpha_bar)
        return mean + gain * (images - alpha_bar.sqrt() * mean)


@pytest.mark.parametrize(("n_candidates", "highest"), [(1, 0.0), (2, 1 / sqrt(pi)), (3, 1.5 / sqrt(pi))])
def test_best_candidate_lies_at_expected_maximum_of_normals(n_candidates, highest):
    """Along the text embedding, candidates are N(0, s^2). The largest of k has a known mean, s / sqrt(pi) for k = 2."""
    s, n = 0.1, 600
    prior, rows = GaussianPrior(s), tokens(["a dress"] * n)
    found = draw_embeddings(prior, rows, n_candidates, sampler="ddim", n_steps=50)
    torch.testing.assert_close(found.norm(dim=1), torch.full((n,), sqrt(SIZE)))
    along = (found * prior.conditioning.embed(rows)).sum(1).mean().item() / sqrt(SIZE) / s
    # Its standard deviation is at most s, so five standard errors are 5 / sqrt(n), 0.2. Projection on the sphere
    # shortens embeddings by 0.5 %, and 50 steps of DDIM keep s within a few percent.
    assert abs(along - highest) < 5 / sqrt(n) + 0.05 * highest


def test_each_embedding_belongs_to_its_own_caption():
    prior, rows = GaussianPrior(0.01), tokens(["a dress", "a pale boot", "trousers", "a bag"])
    found = draw_embeddings(prior, rows, 2, sampler="ddim", n_steps=50)
    # 0.01 times a normal per number: six standard deviations
    assert (found - prior.mean(rows)).abs().max() < 0.06


def test_best_has_largest_dot_product_with_text():
    candidates = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[3.0, 1.0], [1.0, 3.0]]])
    text = torch.tensor([[1.0, 0.4], [1.0, 0.0]])  # dot products 1, 0.8 and 3, 1
    assert best(candidates, text).tolist() == [[1.0, 0.0], [3.0, 1.0]]


def network():
    with global_stream(0, "init"):
        config = PriorConfig((SIZE, 1, 1), 10, width=8, layers=1, heads=2, n_classes=10)
        model = Prior(PriorConfig(**{**config.__dict__, "conditioning": {"name": "clip_caption", **TEXT}})).eval()
    model.noise_schedule, model.prediction = NoiseSchedule(10), "x0"
    return model


PARAMS = {
    "n_seen": 2,
    "n_withheld": 1,
    "captions": ["a dark dress", "a boot"],
    "n_each": 3,
    "n_candidates": 3,
    "guidance_scale": 2.0,
    "batch_size": 4,
    "sampler": "ddim",
    "ddim": {"eta": 0.5},
    "n_steps": 4,
    "spacing": "karras",
    "clip_sample": True,
}


def test_draw_signals_matches_library_embeddings():
    prior, stage = network(), StageRun("sample_prior", SamplePrior(**PARAMS), 4, Compute(), Run())
    rows = tokens(["a bag", "a pale boot", "trousers"])
    prompts = Prompts(rows, torch.tensor([True, True, False]), torch.tensor([5, 6, 7]))
    of_prompts, of_figures = draw_signals(stage, prior, prompts)
    options = {"guidance_scale": 2.0, "sampler": "ddim", "eta": 0.5, "n_steps": 4, "spacing": "karras"}
    options |= {"n_candidates": 3, "clip_sample": True}
    expected = draw_embeddings(prior, rows, seed=derive_seed(stage.seed, "prompts"), **options)
    torch.testing.assert_close(of_prompts["prior"], expected)
    torch.testing.assert_close(of_prompts["text"], prior.conditioning.embed(rows))
    assert not of_prompts["none"].any()
    assert of_prompts["images"].tolist() == [5, 6, 7]
    assert captions(of_figures["tokens"].flatten(0, 1)) == ["a dark dress"] * 3 + ["a boot"] * 3
    assert of_figures["prior"].shape == (2, 3, SIZE)
    shown = tokens(["a dark dress"] * 3 + ["a boot"] * 3)
    expected = draw_embeddings(prior, shown, seed=derive_seed(stage.seed, "figures"), **options)
    torch.testing.assert_close(of_figures["prior"].flatten(0, 1), expected)
    torch.testing.assert_close(of_figures["text"].flatten(0, 1), prior.conditioning.embed(shown))
    assert len(of_figures["prior"].flatten(0, 1).unique(dim=0)) == 6


def test_draw_embeddings_rejects_other_networks():
    with pytest.raises(ValueError, match="this model does not sample embeddings; train one with"):
        draw_embeddings(Unet(UnetConfig((1, 8, 8), 8, (1,), 2, 10, heads=2)), tokens(["a dress"]))


def test_strip_shows_each_number_as_a_column():
    vectors = torch.tensor([[-3.0, 0.0, 1.5, 3.0]])[:, :, None, None]
    assert torch.equal(as_strips(vectors), torch.tensor([-1.0, 0.0, 0.5, 1.0]).expand(1, 1, STRIP, 4))
