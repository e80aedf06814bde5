"""Training CLIP: the loss in closed form, and matching captions to images afterwards."""

import math

import torch

from ddpm.captions.vocabulary import tokens
from ddpm.clip.fit import TrainClip, contrastive_loss, fit_clip
from ddpm.clip.model import Clip
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
