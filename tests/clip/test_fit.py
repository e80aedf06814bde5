"""Training CLIP: the loss in closed form, and matching captions to images afterwards."""

import math

import pytest
import torch

from ddpm.captions.vocabulary import tokens
from ddpm.clip import fit as module
from ddpm.clip.fit import TrainClip, contrastive_loss, fit_clip
from ddpm.clip.model import Clip
from ddpm.diffusion.schedule import cosine_schedule
from ddpm.run.seeding import global_stream
from ddpm.training.loop import Examples

PARAMS = TrainClip(
    max_steps=20,
    schedule="cosine",
    size=8,
    channels=8,
    groups=2,
    width=16,
    layers=1,
    heads=2,
    lr=0.01,
    warmup_steps=5,
    batch_size=32,
    epochs=10,
    log_interval=10,
)


def test_contrastive_loss_matches_closed_form():
    vectors = torch.eye(4)
    # each row has one logit of s and three of 0
    found = contrastive_loss(vectors, vectors, torch.tensor(3.0)).item()
    assert abs(found - (math.log(math.exp(3) + 3) - 3)) < 1e-6
    wrong = contrastive_loss(vectors, vectors.roll(1, 0), torch.tensor(3.0)).item()
    assert abs(wrong - math.log(math.exp(3) + 3)) < 1e-6


def test_each_step_has_own_noise_of_the_schedule_and_a_warmed_up_rate(monkeypatch):
    noised, scales, rates = [], [], []
    draw, loss, step = module.noise_img, module.contrastive_loss, torch.optim.Adam.step

    def noise_img(x0, schedule, **how):
        noised.append((schedule, *draw(x0, schedule, **how)))
        return noised[-1][1:]

    def adam(self, *given):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *given)

    monkeypatch.setattr(module, "noise_img", noise_img)
    monkeypatch.setattr(module, "contrastive_loss", lambda *given: [loss(*given), scales.append(given[2].item())][0])
    monkeypatch.setattr(torch.optim.Adam, "step", adam)
    params = PARAMS.model_copy(update={"epochs": 4.0})  # of two steps
    with global_stream(0, "init"):
        model = Clip(params.config((1, 8, 8)))
    said = tokens(["a light coat"] * 64)
    fit_clip(model, params, Examples(torch.zeros(64, 1, 8, 8, dtype=torch.uint8), said))
    assert scales[0] == pytest.approx(math.exp(2))  # the scale is learnt as its logarithm, from 2 on
    assert rates == pytest.approx([0.01 * min(n / 5, 1) * (1 - (n - 1) / 8) for n in range(1, 9)])
    for schedule, *_ in noised:
        torch.testing.assert_close(schedule.betas, cosine_schedule(20))
    assert len(torch.stack([noise for *_, noise, _ in noised]).unique(dim=0)) == 8
    assert len(torch.stack([num_steps for _, num_steps, *_ in noised]).unique(dim=0)) == 8


def test_trained_clip_matches_captions_to_images():
    """Dark and light boxes of two heights: four captions, so chance is a quarter."""
    kinds = torch.arange(256) % 4
    images = torch.zeros(256, 1, 8, 8, dtype=torch.uint8)
    for image, kind in zip(images, kinds.tolist(), strict=True):
        image[:, : 4 + 4 * (kind // 2)] = 80 if kind % 2 else 250
    said = tokens(["a light coat", "a dark coat", "a light dress", "a dark dress"])
    with global_stream(0, "init"):
        model = Clip(PARAMS.config((1, 8, 8)))
    losses = fit_clip(model, PARAMS, Examples(images, said[kinds]))
    assert losses[-1][0] == 80
    scores = torch.stack([model.scores(images[:64], said[i].expand(64, -1)) for i in range(4)], dim=1)
    assert (scores.argmax(1) == kinds[:64]).all()
