"""Stage train_classifier: images for training and testing, and params."""

import json
from pathlib import Path

import pytest
import torch
from workbench import greys, noise, run, save_split

from ddpm.evaluation.classifier import accuracy, describe, load_classifier
from ddpm.run.resume.context import Resume

FEW = {"epochs": 1, "batch_size": 20}


@pytest.fixture(autouse=True)
def splits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_split("train", greys(0, 60))
    save_split("held_out", greys(60, 60))
    save_split("test", greys(120, 30))


def test_fits_training_split_and_reports_test_accuracy():
    seen = {}

    def fit(model, params, dataset, seed, compute, resume):  # noqa: ARG001
        seen.update(train=dataset, seed=seed, resume=resume)
        model.eval()
        return [(1, 0.9), (2, 0.5)]

    def measured(model, dataset):
        seen["test"] = dataset.images
        return accuracy(model, dataset)

    resume = Resume("train_classifier", {}, 60.0, Path("nowhere"))  # only passed on
    stage = run("train_classifier", FEW, resume=resume, fit_classifier=fit, accuracy=measured)
    assert seen["resume"] is resume
    assert seen["train"].images[:, 0, 0, 0].tolist() == list(range(60))
    assert seen["train"].labels.tolist() == [i % 10 for i in range(60)]
    assert seen["test"][:, 0, 0, 0].tolist() == list(range(120, 150))
    assert seen["seed"] == stage.seed
    model, _ = load_classifier(Path("models/classifier.safetensors"))
    classes = describe(model, seen["test"]).classes
    share = (classes == torch.arange(30) % 10).double().mean().item()
    metrics = json.loads(Path("reports/train_classifier/metrics.json").read_text())
    assert metrics["test_accuracy"] == stage.log.metrics["test/accuracy"] == share
    assert metrics["train_loss"] == 0.5
    assert {step: found["train/loss"] for step, found in stage.log.steps.items() if step} == {1: 0.9, 2: 0.5}


def test_weights_depend_on_the_seed_only():
    weights = []
    for root_seed in (0, 0, 1):
        torch.randn(1)  # changes the global state
        run("train_classifier", FEW, root_seed)
        weights.append(Path("models/classifier.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize(
    "change", [{"weight_decay": 0.5}, {"label_smoothing": 0.9}, {"lr": 0.01}, {"max_shift": 5}, {"batch_size": 30}]
)
def test_params_change_the_weights(change):
    save_split("train", noise(0, 60))
    weights = []
    for changes in (FEW, FEW | change):
        run("train_classifier", changes)
        weights.append(load_classifier(Path("models/classifier.safetensors"))[0].state_dict()["head.weight"])
    assert not torch.equal(*weights)


def test_classifier_accepts_odd_sized_colour_images():
    for split, n in (("train", 60), ("test", 30)):
        save_split(split, noise(0, n, (3, 9, 13)), (torch.arange(n) % 2).to(torch.uint8))
    run("train_classifier", FEW)
    model, _ = load_classifier(Path("models/classifier.safetensors"))
    assert model(torch.zeros(2, 3, 9, 13)).shape == (2, 10)
