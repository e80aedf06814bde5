"""Adherence with intervals, for known images."""

from pathlib import Path

import pytest
import torch

from ddpm.captions.adherence import Adherence
from ddpm.captions.attributes import NAMES
from ddpm.captions.vocabulary import tokens
from ddpm.data.dataset import ImageDataset
from ddpm.evaluation import captioned
from ddpm.evaluation.captioned import adherence_scores, as_values, mean, part_of
from ddpm.evaluation.evaluate import EvaluateUnet
from ddpm.evaluation.metric import Described
from ddpm.run.compute import Compute


def known():
    said = torch.zeros(400, len(NAMES), dtype=torch.bool)
    said[:200, 0] = True
    shown = said.clone()
    shown[:50] = False
    return Adherence(torch.arange(400) % 4 > 0, said, shown)


def test_attribute_shares_are_over_captions_that_name_it():
    found = adherence_scores(known())
    assert found.keys() == {"whole", "class", "tone"}
    assert found["class"].value == 3 / 4
    assert found["tone"].value == 150 / 200
    assert found["whole"].value == known().whole.double().mean()
    # with so many images, Wilson's interval is that of the standard error to a hundredth
    assert (found["class"].high - found["class"].low) / 2 / 1.96 == pytest.approx((0.75 * 0.25 / 400) ** 0.5, rel=0.01)
    assert as_values(found)["class"]["value"] == 3 / 4


def test_part_of_selects_images():
    part = part_of(known(), torch.arange(400) < 50)
    assert len(part.item) == 50
    assert adherence_scores(part)["tone"].value == 0


@pytest.mark.parametrize("right", [0, 399, 400])
def test_share_intervals_are_nonempty_and_within_0_and_1(right):
    said = torch.zeros(400, len(NAMES), dtype=torch.bool)
    found = adherence_scores(Adherence(torch.arange(400) < right, said, said))["class"]
    assert 0 <= found.low <= right / 400 <= found.high <= 1
    assert found.high - found.low > 0.005


def test_mean_equals_arithmetic_mean():
    assert mean(torch.tensor([1.0, 2.0, 6.0, 3.0]), 5, 0).value == 3


def block(level):
    """An item that the rules find plain, and dark or light by its level."""
    image = torch.zeros(1, 28, 28, dtype=torch.uint8)
    image[:, :, 4:24] = level
    return image


def test_seen_and_withheld_captions_are_scored_separately(monkeypatch):
    # Pullovers (class 2): "dark" is seen and "light" withheld. Three of four dark samples are dark, one of two light
    # ones is light. All captions are true of their images, but the classifier takes the last for a coat.
    held_out = ImageDataset(
        torch.stack([block(240), block(60), block(60), block(240), block(60), block(60), block(255)]),
        torch.tensor([2, 2, 2, 2, 2, 2, 4], dtype=torch.uint8),
    )
    samples = torch.stack([block(60), block(240), block(60), block(61), block(60), block(240)])
    prompts = {
        "tokens": tokens([f"a {tone} pullover" for tone in ("dark", "dark", "light", "dark", "dark", "light")]),
        "images": torch.tensor([1, 2, 0, 4, 5, 3]),
        "seen": torch.tensor([True, True, False, True, True, False]),
    }
    asked = []

    def described(_, images):
        classes = torch.full((len(images),), 2)
        if images.shape == held_out.images[:6].shape and torch.equal(images, held_out.images[prompts["images"]]):
            classes[-1] = 4
        return Described(images, torch.empty(len(images), 0), classes, None)

    def compared(_, given, splits, path, seed, __):
        asked.append((given, splits["held_out"] is held_out, path, seed))
        return None, None

    for name, made in (("describe", described), ("load_classifier", lambda _: (None, "")), ("compare", compared)):
        monkeypatch.setattr(captioned, name, made)
    monkeypatch.setattr(captioned, "all_scores", lambda _: {})
    monkeypatch.setattr(captioned, "as_metrics", lambda _: {"worst_auc": 0.75})
    monkeypatch.setattr(captioned, "as_report", lambda *_: {"report": 1})
    params = EvaluateUnet(
        n_samples=None, reference="test", n_halves=5, duplicate_quantile=0.01, epochs=1, inception_weights=None
    )
    found = captioned.evaluate_captioned(params, samples, prompts, {"held_out": held_out}, Path("c"), 3, Compute())
    shares = {"seen": 3 / 4, "withheld": 1 / 2, "seen_floor": 1.0, "withheld_floor": 1 / 2}
    assert {name: scores["whole"]["value"] for name, scores in found["adherence"].items()} == shares
    assert found["metrics"] == {"worst_auc": 0.75} | {f"adherence_{name}": each for name, each in shares.items()}
    assert found["scores"] == {"report": 1}
    [(given, whole, path, seed)] = asked
    assert torch.equal(given["samples"], samples[[0, 1, 3, 4]])  # a withheld pair is not in the training split
    assert given["labels"].tolist() == [2, 2, 2, 2]
    assert (whole, path, seed) == (True, Path("c"), 3)
