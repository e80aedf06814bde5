"""Published data sets, downloaded by torchvision and cached in `.data/`, or read from a user's folder."""

import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddpm.data.dataset import ImageDataset
from ddpm.data.download import UnusableError, from_torchvision
from ddpm.data.idx_files import PARTS, read_splits
from ddpm.data.own import refusal
from ddpm.errors import UserError
from ddpm.run.params import PARAMS
from ddpm.run.root import repo_root

LARGEST = 10**9  # bytes of a file
ARCHIVES = "*.zip", "*.tar.gz"
Splits = tuple[ImageDataset, ImageDataset]


def from_idx(
    name: str, class_names: tuple[str, ...], prefixes: dict[str, str], options: Mapping[str, str] = {}
) -> Callable[[Path | None], Splits]:
    """Make the `load` function of a data set in IDX files.

    Args:
        name: A class of torchvision.datasets.
        class_names: Names of its classes.
        prefixes: The prefixes of its file names, by split.
        options: Arguments of the class that select what is downloaded.
    """

    def load(path: Path | None) -> Splits:
        root = fetched(name, [options]) if path is None else path
        inner = root / name / "raw"
        folder = inner if inner.is_dir() else root
        arrays = read_splits(folder, prefixes)
        for split, prefix in prefixes.items():
            for key, part in PARTS.items():
                if f"{key}_{split}" not in arrays:
                    raise refusal(folder, f"{prefix}-{part}.gz is missing; null downloads the data")
        train, test = (
            _labelled(folder, arrays[f"x_{split}"][:, None], arrays[f"y_{split}"], class_names)
            for split in ("train", "test")
        )
        return train, test

    return load


def from_class(
    name: str, inner: str, class_names: tuple[str, ...], options: Sequence[Mapping[str, Any]]
) -> Callable[[Path | None], Splits]:
    """Make the `load` function of a data set that is read by a class of torchvision, which checks the files' MD5s.

    Args:
        name: The name of the class.
        inner: The folder of its files, relative to torchvision's `root` ("." if it is the same).
        class_names: Names of its classes.
        options: Arguments of the class, for the training split and for the test split.
    """

    def load(path: Path | None) -> Splits:
        from torchvision import datasets  # takes seconds to import

        root = fetched(name, options) if path is None else path
        with tempfile.TemporaryDirectory() as scratch:
            if not (root / inner).is_dir():
                (Path(scratch) / inner).symlink_to(root.absolute())
            at = root if (root / inner).is_dir() else Path(scratch)
            try:
                train, test = (_dataset(root, getattr(datasets, name)(at, **own), class_names) for own in options)
            except (RuntimeError, OSError):
                where = "" if inner == "." else f" in {inner}/"
                raise refusal(
                    root, f"it lacks files of {name}{where}, or has damaged ones; null downloads them"
                ) from None
        return train, test

    return load


def fetched(name: str, options: Sequence[Mapping[str, Any]]) -> Path:
    """The folder of a data set's files, downloaded if necessary.

    Raises:
        UserError: The download failed. No partial files are left.
    """
    kept = repo_root() / ".data" / name.lower()
    if kept.is_dir():
        return kept
    kept.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
        folder = Path(scratch) / name
        folder.mkdir()
        try:
            from_torchvision(name, folder, LARGEST, options)
        except UnusableError as error:
            raise UserError(
                f"{name} cannot be downloaded ({error}); put its files into a folder and name it in {PARAMS}: data.path"
            ) from None
        for pattern in ARCHIVES:
            for archive in folder.rglob(pattern):
                archive.unlink()
        shutil.move(folder, kept)
    logging.getLogger(__name__).info("%s: downloaded", name)
    return kept


def _dataset(folder: Path, split: Any, class_names: tuple[str, ...]) -> ImageDataset:
    images = split.data if split.data.shape[1] == 3 else np.moveaxis(split.data, 3, 1)
    labels = split.labels if hasattr(split, "labels") else split.targets
    return _labelled(folder, np.ascontiguousarray(images), np.asarray(labels), class_names)


def _labelled(folder: Path, images: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]) -> ImageDataset:
    """A split. Raises UserError if its labels do not match its images or classes."""
    if labels.shape != images.shape[:1] or (len(labels) and labels.max() >= len(class_names)):
        raise refusal(
            folder,
            f"it has labels of shape {labels.shape} up to {labels.max(initial=0)}; {len(images):,} images need as many "
            f"labels, up to {len(class_names) - 1}",
        )
    return ImageDataset(torch.from_numpy(images), torch.from_numpy(labels.astype(np.uint8)), class_names)
