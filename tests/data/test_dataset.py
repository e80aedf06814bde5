"""Splits of a data set: which images they hold, and how they are saved and loaded."""

import pytest
import torch
from pydantic import ValidationError

from ddpm.data.dataset import (
    DATASETS,
    Data,
    DatasetSource,
    ImageDataset,
    held_out_by_default,
    load_dataset,
    save_dataset,
    split,
)
from ddpm.errors import UserError

NAMES = "even", "odd"
N_TRAIN, N_TEST = 100, 40


def grey(first: int, n: int) -> ImageDataset:
    """Images that each have a grey level of their own, so that they are distinguishable."""
    levels = torch.arange(first, first + n, dtype=torch.uint8)
    return ImageDataset(levels[:, None, None, None].repeat(1, 3, 2, 4), levels % 2, NAMES)


@pytest.fixture
def loaded(monkeypatch):
    """Replaces the registry's first entry with a made-up data set, and lists the folders it was loaded from."""
    folders = []

    def load(folder):
        folders.append(folder)
        return grey(0, N_TRAIN), grey(150, N_TEST)

    name = next(iter(DATASETS))
    assert DATASETS[name]  # registered, before it is replaced
    monkeypatch.setitem(DATASETS._entries, name, DatasetSource((3, 2, 4), N_TRAIN, N_TEST, NAMES, load))
    return folders


def data(**changes):
    values = {"name": next(iter(DATASETS)), "path": None, "n_train": None, "n_held_out": 5} | changes
    return Data(**values)


@pytest.mark.parametrize(("n_train", "trained"), [(None, 95), (95, 95), (30, 30)])
def test_splits_are_disjoint_and_keep_labels(loaded, n_train, trained):
    params = data(n_train=n_train)
    splits = split(params)
    levels = {name: part.images[:, 0, 0, 0].tolist() for name, part in splits.items()}
    assert levels["train"] == list(range(trained))
    assert params.train_size == trained
    assert levels["held_out"] == list(range(95, 100))
    assert levels["test"] == list(range(150, 190))
    for name, part in splits.items():
        assert part.labels.tolist() == [level % 2 for level in levels[name]]
        assert part.class_names == NAMES
    assert loaded == [None]


@pytest.mark.parametrize(("n", "held_out"), [(72, 24), (249, 24), (250, 25), (49_999, 4999), (60_000, 5000)])
def test_a_tenth_is_held_out_by_default(n, held_out):
    assert held_out_by_default(n) == held_out


def test_split_loads_from_the_configured_folder(loaded, tmp_path):
    split(data(path=str(tmp_path)))
    assert loaded == [tmp_path]


@pytest.mark.parametrize(("n_train", "n_held_out"), [(96, 5), (None, 100), (2, 99), (None, 101)])
@pytest.mark.usefixtures("loaded")
def test_data_rejects_overlapping_split_sizes(n_train, n_held_out):
    with pytest.raises(ValidationError, match=rf"n_train is {n_train} and n_held_out {n_held_out}; .* has 100 images"):
        data(n_train=n_train, n_held_out=n_held_out)


@pytest.mark.parametrize(
    "declared",
    [((3, 2, 4), 99, 40, NAMES), ((3, 2, 4), 100, 41, NAMES), ((3, 4, 2), 100, 40, NAMES), ((3, 2, 4), 100, 40, ())],
)
@pytest.mark.usefixtures("loaded")
def test_split_rejects_data_that_differ_from_declaration(monkeypatch, declared):
    name, source = data().name, data().source
    monkeypatch.setitem(DATASETS._entries, name, DatasetSource(*declared, source.load))
    params = data()
    with pytest.raises(UserError, match=rf"{DATASETS.module(params.name)}: it loaded .*; its DatasetSource declares"):
        split(params)


def test_indexing_keeps_images_labels_and_names_aligned():
    for part, levels in ((grey(0, 10)[2:4], [2, 3]), (grey(0, 10)[torch.tensor([7, 1])], [7, 1])):
        assert len(part) == 2
        assert part.images[:, 0, 0, 0].tolist() == levels
        assert part.labels.tolist() == [level % 2 for level in levels]
        assert part.class_names == NAMES


@pytest.mark.parametrize(
    "dataset",
    [grey(0, 10), ImageDataset(torch.rand(3, 1, 5, 2, generator=torch.Generator().manual_seed(0)))],
    ids=["8-bit, with labels", "floats, without"],
)
def test_save_load_round_trip(tmp_path, dataset):
    save_dataset(tmp_path / "data.safetensors", dataset)
    back = load_dataset(tmp_path / "data.safetensors")
    assert back.images.dtype == dataset.images.dtype
    assert torch.equal(back.images, dataset.images)
    assert (back.labels is None) == (dataset.labels is None)
    assert dataset.labels is None or torch.equal(back.labels, dataset.labels)
    assert (back.class_names, back.img_shape) == (dataset.class_names, tuple(dataset.images.shape[1:]))


def test_x0_maps_uint8_and_float_images_to_minus_1_to_1():
    levels = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1)
    for images in (levels, levels / 255):
        assert ImageDataset(images).x0.flatten().tolist() == pytest.approx([-1, -0.6, 1], abs=1e-6)


def test_load_dataset_rejects_missing_and_damaged_files(tmp_path):
    with pytest.raises(UserError, match=r"none\.safetensors: no such file"):
        load_dataset(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("text")
    with pytest.raises(UserError, match=r"text\.safetensors: damaged"):
        load_dataset(tmp_path / "text.safetensors")
