"""A conditional U-Net from training to scores, stage by stage, on images whose class is visible."""

import json
from pathlib import Path

import pytest
import torch
from workbench import run, save_split

from ddpm.evaluation.classifier import describe, load_classifier
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import load_tensors
from ddpm.run.seeding import generator

SHAPE = (1, 8, 8)
N = 300
TRAIN = {"max_steps": 20, "epochs": 6, "n_eval_per_step": 2, "n_eval": 5, "muon_lr": 0.02, "warmup_steps": 0}
TRAIN |= {"prediction": "x0", "batch_size": 64}  # learns most in few steps
UNET = {"channels": 8, "dim_mults": [1, 2], "groups": 2, "heads": 2}
SAMPLE = {"n_samples": 258, "n_trajectories": 2, "batch_size": 258, "n_steps": 4, "guidance_scale": 1.5}
SAMPLE |= {"sampler": "dpmpp_2m"}


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """Class 0 is dark and class 9 bright, with a little noise."""
    monkeypatch.chdir(tmp_path)
    for split in ("train", "held_out", "test"):
        labels = torch.randint(10, (N,), generator=generator(0, f"{split} labels"), dtype=torch.uint8)
        noise = torch.randint(8, (N, *SHAPE), generator=generator(0, split), dtype=torch.uint8)
        save_split(split, 25 * labels.reshape(-1, 1, 1, 1) + noise, labels)


def grey(images):
    return images.float().mean((1, 2, 3))


def test_label_samples_cycle_classes_and_are_scored():
    run("train_unet", TRAIN | {"unet": UNET, "conditioning": "labels"})
    run("sample_unet", SAMPLE)
    made = load_tensors(Path("samples/unet.safetensors"))
    assert made["labels"].tolist() == [i % 10 for i in range(258)]
    # Classes lie 25 greys apart. A network that ignores them would draw the same for each.
    by_class = torch.stack([grey(made["samples"][made["labels"] == label]).mean() for label in range(10)])
    assert torch.corrcoef(torch.stack((by_class, torch.arange(10.0))))[0, 1] > 0.9
    run("train_classifier", {"epochs": 2})
    run("evaluate_unet", {"n_samples": 258, "n_halves": 2, "epochs": 1})
    scores = json.loads(Path("reports/evaluate_unet/scores.json").read_text())["metrics"]["label_accuracy_classifier"]
    classes = describe(load_classifier(Path("models/classifier.safetensors"))[0], made["samples"]).classes
    assert scores["samples"]["value"] == pytest.approx((classes == made["labels"]).double().mean().item())


def test_cluster_samples_resemble_their_clusters_and_have_no_labels():
    run("train_unet", TRAIN | {"unet": UNET, "conditioning": "clusters", "clusters": {"n_clusters": 6, "dropout": 0.1}})
    run("sample_unet", SAMPLE)
    made = load_tensors(Path("samples/unet.safetensors"))
    assert "labels" not in made
    model = load_model("models/unet.safetensors")
    assert len(made["cond"].unique()) > 1
    asked = grey(model.conditioning.means[made["cond"]])
    assert torch.corrcoef(torch.stack((grey(made["samples"]), asked)))[0, 1] > 0.9
