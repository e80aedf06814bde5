"""A few images without labels: the classifier predicts rotations, and stages leave out what needs classes."""

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from workbench import noise, run

from ddpm.data.dataset import ImageDataset, save_dataset
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.evaluation.metric import METRICS
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.networks.checkpoint import save_model

SHAPE, N = (3, 7, 9), 26
JUDGING = {"n_halves": 2, "epochs": 1}


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A folder where all of them have run."""
    folder = tmp_path_factory.mktemp("judged")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed, split in enumerate(("train", "held_out", "test")):
            images = noise(seed, 60 if split == "train" else N, SHAPE)
            save_dataset(Path(f"data/images/{split}.safetensors"), ImageDataset(images))
        Path("samples").mkdir()
        train = noise(0, 60, SHAPE)
        save_file({"samples": torch.cat((train[:20], noise(3, 20, SHAPE)))}, "samples/unet.safetensors")
        torch.manual_seed(0)
        model = Unet(UnetConfig(SHAPE, channels=8, dim_mults=(1, 2), max_steps=5))
        model.noise_schedule, model.prediction = NoiseSchedule(5), "x0"
        facts = {"schedule": "linear", "seed": 0, "step": 1, "weighting": "simple", "weights": "raw"}
        save_model(Path("models/unet.safetensors"), model, facts)
        run("train_classifier")
        run("evaluate_unet", {"n_samples": None, **JUDGING})
        run("controls", JUDGING)
        run("paper", {"n_steps": 2, "n_halves": 2, "n_pairs": 2, "n_branches": 2, "n_lambdas": 2, "n_moments": 2})
    return folder / "reports"


def test_only_metrics_of_classes_are_omitted(judged):
    scores = json.loads((judged / "evaluate_unet/scores.json").read_text())
    of_classes = {"class_distance_classifier", "label_accuracy_classifier"}
    expected = METRICS.keys() - of_classes - {"fid_classifier", "fid_inception"}  # which need more samples
    assert scores["metrics"].keys() == expected
    assert scores["n_samples"] == N
    assert (judged / "evaluate_unet/class_histogram.csv").read_text().count("\n") == 1
    trained = json.loads((judged / "train_classifier/metrics.json").read_text())
    assert 0 <= trained["test_accuracy"] <= 1
    controls = json.loads((judged / "controls/controls.json").read_text())
    assert "class_missing" not in controls
    assert controls["real"]["metrics"].keys() == expected


def test_copies_are_found_among_few_images(judged):
    found = json.loads((judged / "evaluate_unet/metrics.json").read_text())
    for space in ("pixel", "classifier"):
        assert found[f"duplicates_{space}"] == 20 / N  # the samples begin with training images
        with (judged / f"evaluate_unet/neighbours_{space}.csv").open() as file:
            assert [int(row["index"]) for row in csv.DictReader(file)][:20] == [*range(20)]


def test_paper_x0_quality_uses_patches_metric(judged):
    facts = json.loads((judged / "paper/x0_quality.json").read_text())
    assert (facts["metric"], facts["n_samples"]) == ("patches_fine", N)
    assert facts["patches_fine_floor"]["value"] > 0
