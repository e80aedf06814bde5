"""Rotation prediction: against NumPy's rotations, and a classifier that learns which way is up."""

import numpy as np
import pytest
import torch
from workbench import noise

from ddpm.data.dataset import ImageDataset
from ddpm.evaluation.classifier import Classifier, ClassifierConfig, TrainClassifier, accuracy, describe, fit_classifier
from ddpm.evaluation.metric import Described
from ddpm.evaluation.rotation import N_TURNS, rotated
from ddpm.run.seeding import global_stream


@pytest.mark.parametrize(("shape", "across", "down"), [((3, 6, 6), 0, 0), ((1, 6, 10), 2, 0), ((3, 9, 5), 0, 2)])
def test_rotated_turns_central_square_as_numpy_does(shape, across, down):
    images, turns = noise(0, 8, shape), torch.tensor([0, 1, 2, 3, 3, 2, 1, 0])
    side = min(shape[1:])
    found = rotated(images, turns)
    for image, k, square in zip(images, turns.tolist(), found, strict=True):
        centre = image.numpy()[:, down : down + side, across : across + side]
        assert np.array_equal(square.numpy(), np.rot90(centre, k, axes=(1, 2)))


def lit_from_above(n: int, seed: int) -> ImageDataset:
    """Noise that is brighter at the top, wider than high and without labels."""
    light = torch.linspace(120, 0, 12).to(torch.uint8)[:, None]
    return ImageDataset(noise(seed, n, (1, 12, 16)) // 2 + light)


def test_classifier_without_labels_learns_rotations():
    values = {"batch_size": 32, "lr": 0.1, "weight_decay": 0.0005, "micro_batches": 2, "label_smoothing": 0.1}
    params = TrainClassifier.model_validate(values | {"max_shift": 1, "epochs": 4})
    with global_stream(0, "init"):
        model = Classifier(ClassifierConfig(1, N_TURNS))
    fit_classifier(model, params, lit_from_above(256, 0))
    unseen = lit_from_above(50, 1)
    assert accuracy(model, unseen) >= 0.98
    assert (describe(model, unseen.images).classes == 0).all()  # upright
    upside_down = ImageDataset(unseen.images.flip(2))
    assert accuracy(model, upside_down) <= 0.02


def test_accuracy_without_labels_is_over_all_images_in_all_rotations(monkeypatch):
    def upright(_, images):
        seen.extend(image.numpy().tobytes() for image in images)
        return Described(images, torch.empty(len(images), 0), torch.zeros(len(images), dtype=torch.long))

    seen, images = [], noise(0, 6, (1, 5, 5))
    monkeypatch.setattr("ddpm.evaluation.classifier.describe", upright)
    assert accuracy(Classifier(ClassifierConfig(1, N_TURNS)), ImageDataset(images)) == 1 / 4
    turned = [np.rot90(image.numpy(), k, axes=(1, 2)).tobytes() for image in images for k in range(4)]
    assert sorted(seen) == sorted(turned)
