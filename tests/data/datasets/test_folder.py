"""A folder of pictures: classes, splits, copies and broken files. Equal pictures give equal data sets."""

import errno
import os
import re
import shutil
import unicodedata
from pathlib import Path

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
    """Pictures in two classes, in a folder whose name has spaces and umlauts."""
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
    assert "Files that cannot be read are left out: rot/bad.png (it is not a picture)." in told
    assert "Files that cannot be read are left out: grün/1.png" in told


def test_image_shape_is_inferred_unless_configured(pictures):
    shape = lambda **options: find(pictures, FolderOptions(**options)).img_shape  # noqa: E731
    assert shape() == (3, 6, 5)
    assert shape(size=8, channels=1) == (1, 8, 8)
    assert shape(size=[4, 7]) == (3, 4, 7)
    picture(0, (6, 5)).save(pictures / "rot/0.png")
    assert shape() == (3, 6, 5)  # one is grey
    picture(0, (9, 9, 3)).save(pictures / "rot/larger.png")
    assert shape() == (3, 32, 32)
    for path in pictures.rglob("*.png"):
        Image.open(path).convert("L").resize((64, 48)).save(path)
    assert shape() == (1, 48, 64)
    for path in pictures.rglob("*.png"):
        Image.open(path).convert("L").resize((80, 80)).save(path)
    assert shape() == (1, 32, 32)


def test_resizing_by_default_is_reported(pictures):
    notes = lambda **options: find(pictures, FolderOptions(**options)).notes  # noqa: E731
    assert notes() == []
    picture(0, (90, 70, 3)).save(pictures / "rot/larger.png")
    resized = "are cropped and resized to 32x32: data.folder.size changes this."
    assert notes() == [f"Pictures of 5x6 to 70x90 pixels {resized}"]
    assert notes(size=6) == []
    for path in pictures.rglob("*.png"):
        picture(0, (90, 70, 3)).save(path)
    assert notes() == [f"Pictures of 70x90 pixels {resized}"]


def test_grey_pictures_stored_in_colour_are_reported(pictures):
    def notes(**options):
        found = data(pictures, folder=options)
        split(found)
        return found.source.notes

    assert notes() == []
    for path in pictures.rglob("*.png"):
        Image.open(path).convert("L").convert("RGB").save(path)
    assert notes() == ["All images are grey, though stored in colour: -S data.folder.channels=1 trains in grey."]
    assert notes(channels=1) == notes(channels=3) == []


def test_ground_shows_through_transparent_pictures(pictures):
    Image.new("RGBA", (5, 6)).save(pictures / "rot/clear.png")
    for options, level in (({}, 255), ({"ground": 7}, 7)):
        images = [image for part in loaded(pictures, **options).values() for image in part.images]
        assert sum(bool((image == level).all()) for image in images) == 1


def test_other_files_are_ignored_and_reported(pictures):
    for name in ("a.heic", "b.HEIC", "README"):
        (pictures / name).write_text("no picture")
    os.mkfifo(pictures / "rot/pipe.png")  # reading it would wait for ever
    notes = []
    assert len(picture_files(pictures, notes)) == N
    assert notes == ["Other files are ignored: 4 (.heic, .png, no suffix)."]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: shutil.rmtree(folder), "there is no such folder"),
        (lambda folder: (shutil.rmtree(folder), folder.mkdir()), r"it has no pictures \(.*other files: 0"),
        (lambda folder: [path.rename(path.with_suffix(".txt")) for path in folder.rglob("*.png")], "other files: 90"),
        (
            lambda folder: [path.unlink() for path in folder.rglob("*.png") if path.stem != "0"],
            "it has 1 different, readable image; at least 72 are needed",
        ),
        (lambda folder: picture(0).save(folder / "stray.png"), "subfolders are classes, .* next to them: stray.png"),
        (lambda folder: picture(0, (3, 3, 3)).save(folder / "rot/small.png"), r"rot/small.png \(it has 3x3 pixels"),
        (lambda folder: Image.new("1", (8000, 7000)).save(folder / "rot/large.png"), "at most 50,000,000 are read"),
        (lambda folder: (folder / "rot/gone.png").symlink_to("nowhere"), r"rot/gone.png \(No such file"),
        (
            lambda folder: [picture(0).save(path) for path in folder.rglob("*.png")],
            "it has 1 different, readable image;",
        ),
    ],
    ids=["none", "empty", "text", "one", "stray", "small", "large", "dangling", "all the same"],
)
def test_unusable_folders_are_rejected_in_one_line(pictures, make, reason):
    make(pictures)
    assert re.search(reason, refused(pictures))


def test_symlinks_to_folders_are_not_followed(pictures):
    """Otherwise, a loop would give each picture many times. Copies are dropped later."""
    (pictures / "rot/loop").symlink_to(pictures, target_is_directory=True)
    assert len(picture_files(pictures, [])) == N


def test_unreadable_folder_is_rejected(pictures, monkeypatch):
    """Patched functions raise the error, as root may read everything."""
    scandir, is_dir = os.scandir, Path.is_dir

    def no_rot(path):
        if Path(path).name == "rot":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    def no_parent(path):
        if path == pictures:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return is_dir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", no_rot)
        assert refused(pictures).endswith("rot: Permission denied")
    monkeypatch.setattr(Path, "is_dir", no_parent)
    assert refused(pictures).endswith("; Permission denied")


@pytest.mark.parametrize(("names", "are_splits"), [(("train", "Test"), True), (("val", "grün"), False)])
def test_splits_are_not_taken_for_classes(pictures, names, are_splits):
    for old, new in zip(("rot", "grün"), names, strict=True):
        (pictures / old).rename(pictures / new)
    if are_splits:
        assert refused(pictures).endswith("look like splits, not classes: Test, train; name one of them as data.path")
    else:
        assert split(data(pictures))["train"].class_names == ("grün", "val")


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
