"""Stages generate_gradients and prepare_data: which images end up in which file."""

import json
import runpy

import numpy as np
import pytest
import torch
from project import REPO

from ddpm.data.dataset import Data, ImageDataset, load_dataset
from ddpm.data.gradients import GenerateGradients, gradient_images, gradients, nearest_corners
from ddpm.run.compute import Compute
from ddpm.run.seeding import derive_seed, generator
from ddpm.run.stage import StageRun
from ddpm.run.tracking.record import Run


def run(name, params, seed=3):
    stage = runpy.run_path(str(REPO / f"stages/{name}.py"))["STAGES"][name]
    stage.main(StageRun(name, params, seed, Compute(), Run()))
    assert all(path.is_file() for path in stage.outputs)


def test_gradient_splits_are_independent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("generate_gradients", GenerateGradients(img_shape=[3, 4, 5], n_train=200, n_held_out=50))
    train, held_out = (load_dataset(tmp_path / f"data/gradients/{name}.safetensors") for name in ("train", "held_out"))
    assert (len(train), len(held_out)) == (200, 50)
    for split in (train, held_out):
        assert split.img_shape == (3, 4, 5)
        assert split.labels is None
        assert (gradients(nearest_corners(split.images), 4, 5) - split.images).abs().max() < 1e-6  # float32 rounding
    # With one stream for both, the shorter would share some corner values.
    corners = [nearest_corners(split.images[:50]).flatten(1) for split in (train, held_out)]
    assert (corners[0] == corners[1]).double().mean() < 0.05  # by chance 1 in 255
    assert not (train.images[:, None] == held_out.images).flatten(2).all(2).any()


def test_gradients_are_drawn_from_the_stage_seed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("generate_gradients", GenerateGradients(img_shape=[1, 2, 2], n_train=9, n_held_out=4), seed=7)
    for name, n in (("train", 9), ("held_out", 4)):
        expected = gradient_images(n, (1, 2, 2), generator(derive_seed(7, "generate_gradients"), name))
        assert torch.equal(load_dataset(tmp_path / f"data/gradients/{name}.safetensors").images, expected)


@pytest.mark.parametrize(
    ("shape", "n", "reason"), [([3, 1, 1], 5, "at least 2 pixels"), ([3, 256, 256], 10_000_000, "n_train x img_shape")]
)
def test_generate_gradients_rejects_invalid_sizes(shape, n, reason):
    with pytest.raises(ValueError, match=reason):
        GenerateGradients(img_shape=shape, n_train=n, n_held_out=5)


def test_prepare_data_writes_each_split_to_its_file(tmp_path, monkeypatch, fashion_mnist_raw):
    monkeypatch.chdir(tmp_path)
    params = Data(name="fashion_mnist", path=str(fashion_mnist_raw), n_train=100, n_held_out=300)
    run("prepare_data", params)
    train, test = params.source.load(fashion_mnist_raw)
    for name, expected in (("train", train[:100]), ("held_out", train[59_700:]), ("test", test)):
        found = load_dataset(tmp_path / f"data/images/{name}.safetensors")
        assert isinstance(found, ImageDataset)
        assert torch.equal(found.images, expected.images)
        assert torch.equal(found.labels, expected.labels)
        assert found.class_names == params.source.class_names


def test_prepare_data_reports_notes_on_the_files(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).integers(0, 256, (81, 5, 6), dtype=np.uint8)
    x[80] = x[3]
    np.savez(tmp_path / "own.npz", x_train=x)
    run("prepare_data", Data(name="npz", path=str(tmp_path / "own.npz"), n_train=None, n_held_out=None))
    notes = json.loads((tmp_path / "reports/prepare_data/data.json").read_text())["notes"]
    assert notes[0].startswith("1 of 81 images are copies of others and are left out: ")
    assert caplog.messages == notes
