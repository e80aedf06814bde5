"""Measures of variations and edits, on images with known values and distances."""

from math import sqrt

import pytest
import torch

from ddpm.captions.vocabulary import tokens
from ddpm.evaluation import variations
from ddpm.evaluation.classifier import Classifier, ClassifierConfig
from ddpm.evaluation.metric import Described
from ddpm.evaluation.variations import edit_scores, others_of_class, spread, variation_scores

DRESS, COAT = 3, 4
JUDGE = Classifier(ClassifierConfig(channels=1, n_classes=10))  # not called


@pytest.fixture(autouse=True)
def classes_by_the_corner(monkeypatch):
    """A classifier that reads the class from the first pixel, and whose features are the pixels, halved."""

    def describe(_, images):
        return Described(images, images.flatten(1).float() / 2, images[:, 0, 0, 0].long())

    monkeypatch.setattr(variations, "describe", describe)


def dress(grey, item=DRESS):
    """A plain broad item of clothing of one grey, with its class in the corner."""
    image = torch.zeros(1, 28, 28, dtype=torch.uint8)
    image[:, :, 4:24] = grey
    image[0, 0, 0] = item
    return image


def test_others_share_the_class_and_exclude_the_image():
    labels = torch.tensor([1, 2, 1, 1, 2])
    found = others_of_class(labels, torch.tensor([0, 4]), 5, seed=0)
    assert found.shape == (2, 5)
    assert set(found[0].tolist()) == {2, 3}
    assert set(found[1].tolist()) == {1}


def test_spread_is_mean_pairwise_distance():
    triangle = torch.tensor([[[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]], [[1.0, 1.0]] * 3])
    torch.testing.assert_close(spread(triangle), torch.tensor([(3 + 4 + 5) / 3, 0.0]))


def test_variations_are_compared_with_caption_and_class():
    dark, light = dress(60), dress(230)
    own = torch.stack((torch.stack((dark, dress(70))), torch.stack((light, dress(60, COAT)))))
    others = torch.stack((torch.stack((light, dark)), torch.stack((light, dress(130)))))
    found = variation_scores(JUDGE, own, others, tokens(["a dark dress", "a light dress"]))
    assert (found["variations/whole"], found["variations/class"], found["variations/tone"]) == (0.75, 0.75, 0.75)
    assert (found["others/whole"], found["others/class"]) == (0.5, 1)
    assert found["spread/features"] == pytest.approx(found["spread/pixels"])  # all distances are halved
    n_pixels, corner = 28 * 20, (COAT - DRESS) / 255
    pairs = 10 / 255 * sqrt(n_pixels), sqrt(n_pixels * (170 / 255) ** 2 + corner**2)
    expected = sum(pairs) / (170 / 255 * sqrt(n_pixels) + 100 / 255 * sqrt(n_pixels))
    assert found["spread/pixels"] == pytest.approx(expected, rel=1e-4)


def test_edit_scores_use_the_rules_of_the_original_class():
    images = torch.stack((dress(230), dress(60), dress(230, COAT), dress(230)))
    items = torch.full((4,), DRESS)
    assert edit_scores(JUDGE, images, items, "light") == {"shown": 0.75, "class": 0.75}
    assert edit_scores(JUDGE, images, items, "wide") == {"shown": 1, "class": 0.75}  # coats are neither wide nor narrow
    assert edit_scores(JUDGE, images, items, "dark") == {"shown": 0.25, "class": 0.75}
