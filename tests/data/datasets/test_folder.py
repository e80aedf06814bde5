"""A folder of pictures: classes, splits, copies, broken files; equal pictures give equal data sets."""

import os
import re
import shutil
import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm.data.dataset import Data, split
from ddpm.data.datasets import folder as module
from ddpm.data.datasets.folder import FolderOptions, find, picture_files
from ddpm.data.findings import findings
from ddpm.errors import UserError

N = 90


def picture(seed, size=(6, 5, 3)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8))


@pytest.fixture
def pictures(tmp_path):
    """Pictures in two classes; the folder's name has spaces and umlauts."""
    folder = tmp_path / "meine schönen Bilder"
    for i in range(N):
        path = folder / ("grün" if i % 3 else "rot") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(i).save(path)
    return folder


def data(path, **changes):
    return Data(**{"name": "folder", "path": str(path), "n_train": None, "n_held_out": None} | changes)


def loaded(path, **options):
    return split(data(path, folder=options))


def refused(path, **options):
    """The one-line error message."""
    with pytest.raises(UserError) as caught:
        loaded(path, **options)
    assert str(caught.value).startswith(f"params.yaml: data.path is {path}; ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_subfolders_are_classes_and_splits_are_a_partition(pictures):
    splits = loaded(pictures)
    assert {name: len(part) for name, part in splits.items()} == {"train": 42, "held_out": 24, "test": 24}
    found = {}
    for part in splits.values():
        assert part.class_names == ("grün", "rot")
        found |= {
            image.numpy().tobytes(): part.class_names[label]
            for image, label in zip(part.images, part.labels, strict=True)
        }
    drawn = {np.asarray(picture(i)).transpose(2, 0, 1).tobytes(): "grün" if i % 3 else "rot" for i in range(N)}
    assert found == drawn


def test_flat_folder_has_no_labels(pictures, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, path in enumerate(sorted(pictures.rglob("*.png"))):
        shutil.copy(path, flat / f"{i}.PNG")
    (flat / "notes.txt").write_text("no picture")
    (flat / ".hidden.png").write_text("no picture")
    (flat / "empty").mkdir()
    found = data(flat)
    splits = split(found)
    assert all(part.labels is None and part.class_names == () for part in splits.values())
    assert any("There are no classes" in note for note in findings(splits, found.source.notes)["notes"])


def test_digest_ignores_file_names_but_not_classes(pictures, tmp_path):
    expected = findings(loaded(pictures))["digest"]
    other = tmp_path / "other" / "place"
    paths = sorted(pictures.rglob("*.png"), reverse=True)
    for i, path in enumerate(paths):
        target = other / unicodedata.normalize("NFD", path.parent.name) / f"{i % 2}" / f"x{i}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    assert findings(loaded(other))["digest"] == expected
    (other / "rot").rename(other / "blau")
    assert findings(loaded(other))["digest"] != expected


def test_duplicates_are_dropped_and_reported(pictures):
    shutil.copy(pictures / "rot/0.png", pictures / "rot/again.png")
    Image.open(pictures / "rot/3.png").save(pictures / "grün/again.bmp")
    found = data(pictures)
    splits = split(found)
    assert sum(map(len, splits.values())) == N
    told = "\n".join(found.source.notes)
    assert f"2 of {N + 2} images are copies of others and are left out" in told
    assert "1 of these copies are in a different class" in told


def test_broken_files_are_rejected_or_left_out_by_option(pictures):
    (pictures / "rot/bad.png").write_text("no picture")
    picture(1, (6, 6, 3)).save(pictures / "grün/1.png")
    (pictures / "grün/1.png").write_bytes((pictures / "grün/1.png").read_bytes()[:-40])  # its header is whole
    said = refused(pictures)
    assert "1 of its files cannot be read: rot/bad.png (it is not a picture)" in said
    assert said.endswith("-S data.folder.broken=leave_out")
    (pictures / "rot/bad.png").unlink()
    assert "grün/1.png" in refused(pictures)
    (pictures / "rot/bad.png").write_text("no picture")
    found = data(pictures, folder={"broken": "leave_out"})
    assert sum(map(len, split(found).values())) == N - 1
    told = "\n".join(found.source.notes)
    assert "rot/bad.png" in told
    assert "grün/1.png" in told


def test_image_shape_is_inferred_unless_configured(pictures):
    shape = lambda **options: find(pictures, FolderOptions(**options)).img_shape  # noqa: E731
    assert shape() == (3, 6, 5)
    assert shape(size=8, channels=1) == (1, 8, 8)
    assert shape(size=[4, 7]) == (3, 4, 7)
    picture(0, (9, 9, 3)).save(pictures / "rot/larger.png")
    assert shape() == (3, 32, 32)
    for path in pictures.rglob("*.png"):
        Image.open(path).convert("L").resize((80, 80)).save(path)
    assert shape() == (1, 32, 32)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: shutil.rmtree(folder), "there is no such folder"),
        (lambda folder: (shutil.rmtree(folder), folder.mkdir()), r"it has no pictures \(.*other files: 0"),
        (lambda folder: [path.rename(path.with_suffix(".txt")) for path in folder.rglob("*.png")], "other files: 90"),
        (
            lambda folder: [path.unlink() for path in folder.rglob("*.png") if path.stem != "0"],
            "different images in it that are readable: 1;",
        ),
        (lambda folder: picture(0).save(folder / "stray.png"), "subfolders are classes, .* next to them: stray.png"),
        (lambda folder: picture(0, (3, 3, 3)).save(folder / "rot/small.png"), r"rot/small.png \(it has 3x3 pixels"),
        (lambda folder: Image.new("1", (8000, 7000)).save(folder / "rot/large.png"), "at most 50,000,000 are read"),
        (lambda folder: (folder / "rot/gone.png").symlink_to("nowhere"), r"rot/gone.png \(No such file"),
        (
            lambda folder: [picture(0).save(path) for path in folder.rglob("*.png")],
            "different images in it that are readable: 1;",
        ),
    ],
    ids=["none", "empty", "text", "one", "stray", "small", "large", "dangling", "all the same"],
)
def test_unusable_folders_are_rejected_in_one_line(pictures, make, reason):
    make(pictures)
    assert re.search(reason, refused(pictures))


def test_symlinks_to_folders_are_not_followed(pictures):
    """A loop would otherwise give each picture many times; copies are dropped later."""
    (pictures / "rot/loop").symlink_to(pictures, target_is_directory=True)
    assert len(picture_files(pictures)) == N


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folder_is_rejected(pictures):
    (pictures / "rot").chmod(0)
    try:
        assert "Permission denied" in refused(pictures)
    finally:
        (pictures / "rot").chmod(0o755)


def test_file_removed_during_loading_is_reported(pictures, monkeypatch):
    decode, changed = module.decode, []

    def removed(*arguments):
        if not changed:
            changed.append(pictures / "rot/87.png")
            changed[0].unlink()
        return decode(*arguments)

    monkeypatch.setattr(module, "decode", removed)
    assert "rot/87.png (No such file or directory)" in refused(pictures)


def test_params_set_split_sizes_and_require_a_path(pictures):
    splits = split(data(pictures, n_held_out=30, n_train=20))
    assert [len(splits[name]) for name in ("train", "held_out", "test")] == [20, 30, 24]
    with pytest.raises(ValueError, match="n_train is None and n_held_out 66; folder has 66 images"):
        data(pictures, n_held_out=66)
    with pytest.raises(UserError, match=r"data\.path is null; data set folder needs a path"):
        Data(name="folder", path=None, n_train=None, n_held_out=None)
    assert torch.equal(splits["test"].images, loaded(pictures)["test"].images)
