"""Stages train_tiny and train_unet: the images, params and seeds used, and the files written."""

from pathlib import Path

import pytest
import torch
from workbench import declared, greys, run, save_split

from ddpm.data.dataset import ImageDataset, save_dataset
from ddpm.networks.checkpoint import load_model
from ddpm.run.resume.context import Resume
from ddpm.run.seeding import derive_seed, global_stream

FOLDERS = {"tiny": "gradients", "unet": "images"}
SHAPE = (1, 8, 8)
SMALL = {"max_steps": 20, "epochs": 1, "n_eval_per_step": 2, "n_eval": 5, "batch_size": 16}
CHANGES = {
    "tiny": SMALL | {"mlp": {"hidden_size": 8}},
    "unet": SMALL
    | {
        "unet": {"channels": 8, "dim_mults": [1, 2], "groups": 2, "heads": 2},
        "conditioning": "clusters",
        "clusters": {"n_clusters": 4, "dropout": 0.1},
    },
}

RESUME = Resume("train", {}, 60.0, Path("nowhere"))  # only passed on


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """Every split has its own greys."""
    monkeypatch.chdir(tmp_path)
    for folder, first in (("gradients", 0), ("images", 128)):
        save_split("train", greys(first, 40, SHAPE), folder=folder)
        save_split("held_out", greys(first + 60, 20, SHAPE), folder=folder)
        save_split("test", greys(first + 100, 20, SHAPE), folder=folder)


class Stop(Exception):
    """Ends a stage once `fit` is called."""


def arriving(name, **changes):
    """Arguments of `fit`."""
    found = {}

    def fit(model, params, train, held_out, seed, compute, log, resume):
        found.update(locals())
        raise Stop

    with pytest.raises(Stop):
        run(f"train_{name}", CHANGES[name] | changes, root_seed=3, fit=fit, resume=RESUME)
    return found


@pytest.mark.parametrize(("name", "first"), [("tiny", 0), ("unet", 128)])
def test_fit_receives_training_and_held_out_images(name, first):
    found = arriving(name)
    assert torch.equal(found["train"].images, greys(first, 40, SHAPE))
    held_out = greys(first + 75, 5, SHAPE) / 127.5 - 1  # the last 5
    assert (found["held_out"].images - held_out).abs().max() < 1e-6
    everything = arriving(name, n_eval=None)["held_out"].images
    assert (everything - (greys(first + 60, 20, SHAPE) / 127.5 - 1)).abs().max() < 1e-6


@pytest.mark.parametrize("name", ["tiny", "unet"])
def test_fit_receives_params_seed_device_and_resume(name):
    found = arriving(name, lr=0.0123)
    assert (found["params"].lr, found["params"].max_steps, found["params"].batch_size) == (0.0123, 20, 16)
    assert found["seed"] == derive_seed(3, f"train_{name}")
    assert found["compute"].device == torch.device("cpu")
    assert found["resume"] is RESUME
    assert hasattr(found["log"], "log_metrics")
    assert type(found["model"]).__name__ == {"tiny": "TinyDiffuser", "unet": "Unet"}[name]
    assert found["model"].img_shape == SHAPE


def test_initial_weights_come_from_the_stage_seed():
    found = arriving("unet", conditioning=None)["model"]
    with global_stream(derive_seed(3, "train_unet"), "init"):
        expected = type(found)(found.config)
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), expected.parameters(), strict=True))


def test_clusters_are_fitted_on_training_images_only():
    found = arriving("unet")
    conditioning = found["model"].conditioning
    greys_of_means = (conditioning.means.mean((1, 2, 3)) + 1) * 127.5
    assert 128 <= greys_of_means.min() <= greys_of_means.max() <= 128 + 39
    assert conditioning.frequencies.sum() == pytest.approx(1)
    assert torch.equal(found["train"].cond, conditioning.encode(found["train"].images / 127.5 - 1, None))
    assert torch.equal(found["held_out"].cond, conditioning.encode(found["held_out"].images, None))


def test_labels_stay_aligned_with_images():
    found = arriving("unet", conditioning="labels")
    assert found["train"].cond.tolist() == [i % 10 for i in range(40)]
    assert found["held_out"].cond.tolist() == [i % 10 for i in range(15, 20)]
    assert found["model"].config.n_classes == 10


@pytest.mark.parametrize("name", ["tiny", "unet"])
def test_only_declared_outputs_are_written_with_model_facts(name):
    stage = run(f"train_{name}", CHANGES[name], root_seed=3)
    declaration, _ = declared(f"train_{name}")
    assert all(path.is_file() for path in declaration.outputs)
    written = {path for folder in ("models", "reports") for path in Path(folder).rglob("*") if path.is_file()}
    assert written == set(declaration.outputs)
    model = load_model(f"models/{name}.safetensors")
    params = stage.params
    assert model.facts == {
        "schedule": params.schedule,
        "seed": 3,
        "step": 3,  # 40 images in batches of 16
        "weighting": params.weighting,
        "weights": f"EMA {params.ema_decay}",
    }
    assert model.prediction == params.prediction
    assert len(model.noise_schedule) == 20


def test_float_gradient_images_can_be_trained_on():
    gradients = torch.rand(40, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    for split in ("train", "held_out"):
        save_dataset(Path(f"data/gradients/{split}.safetensors"), ImageDataset(gradients))
    found = arriving("tiny")
    assert torch.equal(found["train"].images, gradients * 2 - 1)
    assert torch.equal(found["held_out"].images, gradients[-5:] * 2 - 1)
    run("train_tiny", CHANGES["tiny"])
    assert load_model("models/tiny.safetensors").img_shape == (3, 4, 5)
