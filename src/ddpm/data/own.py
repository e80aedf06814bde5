"""User-supplied images: duplicates are removed, with a note to the user, and the rest is split."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Integer, UInt8
from torch import Tensor

from ddpm.data.dataset import FEWEST, DatasetSource, ImageDataset, held_out_by_default
from ddpm.data.pictures import SMALLEST
from ddpm.errors import UserError
from ddpm.run.params import PARAMS

LEAST = 3 * FEWEST  # minimum number of images, for three splits
SPLIT = "train", "test"
NAMED = 5  # maximum number of files that a message lists


def refusal(path: Path, why: str) -> UserError:
    """The error for unusable data at `path`, with the reason."""
    return UserError(f"{PARAMS}: data.path is {path}; {why}")


def check_folder(path: Path) -> None:
    """Raise UserError unless `path` is a folder."""
    try:
        found = path.is_dir()
    except OSError as error:  # a parent folder is not readable
        raise refusal(path, error.strerror or str(error)) from None
    if not found:
        raise refusal(path, "there is no such folder")


def in_a_line(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


def split_sizes(n_images: int) -> tuple[int, int]:
    """The sizes of the training split, including the held-out images, and of the test split."""
    n_test = held_out_by_default(n_images)
    return n_images - n_test, n_test


def check_number(path: Path, n_images: int) -> None:
    """Raise UserError if there are too few images for training, validation and test."""
    if n_images < LEAST:
        plural = "" if n_images == 1 else "s"
        raise refusal(path, f"it has {n_images} different, readable image{plural}; at least {LEAST} are needed")


def fingerprints(images: UInt8[Tensor, "n c h w"]) -> list[bytes]:
    """A hash of each image's pixels, which is equal for copies."""
    return [hashlib.sha256(image.numpy().tobytes()).digest() for image in images]


def without_copies(
    dataset: ImageDataset, names: Sequence[str], path: Path, notes: list[str]
) -> tuple[ImageDataset, ImageDataset]:
    """Remove duplicates, and split the remaining images at random into training and test images.

    Images are sorted by a hash of their pixels, so the splits depend neither on their order nor on their names. Only
    one of several identical images is kept, since duplicates across splits would invalidate the scores.

    Args:
        dataset: All images, in 8 bits.
        names: The name of each image, for the notes.
        path: The source of the images, for messages.
        notes: A line on duplicates is appended, if there are any.

    Raises:
        UserError: Too few images are left.
    """
    keys = fingerprints(dataset.images)
    classes = [""] * len(keys) if dataset.labels is None else [dataset.class_names[i] for i in dataset.labels.tolist()]
    order = sorted(range(len(keys)), key=lambda i: (keys[i], classes[i]))
    kept = [i for place, i in enumerate(order) if not place or keys[order[place - 1]] != keys[i]]
    check_number(path, len(kept))
    _note_copies(keys, classes, names, kept, notes)
    found = dataset[torch.tensor(kept)]
    n_train, _ = split_sizes(len(kept))
    return found[:n_train], found[n_train:]


def _note_copies(
    keys: Sequence[bytes], classes: Sequence[str], names: Sequence[str], kept: Sequence[int], notes: list[str]
) -> None:
    if len(kept) == len(keys):
        return
    first = {keys[i]: i for i in kept}
    copies = sorted(f"{names[i]} (of {names[first[key]]})" for i, key in enumerate(keys) if first[key] != i)
    notes.append(f"{len(copies):,} of {len(keys):,} images are copies of others and are left out: {in_a_line(copies)}.")
    if astray := sorted({names[i] for i, key in enumerate(keys) if classes[first[key]] != classes[i]}):
        notes.append(
            f"{len(astray):,} of these copies are in a different class from the image kept: {in_a_line(astray)}."
        )


def small_labels(labels: Integer[Tensor, " n"], n_classes: int) -> Integer[Tensor, " n"]:
    """Labels in the smallest sufficient dtype."""
    return labels.to(torch.uint8 if n_classes <= 256 else torch.int32)


def from_arrays(path: Path, arrays: Mapping[str, np.ndarray], class_names: Sequence[str] = ()) -> DatasetSource:
    """A data set of arrays in memory.

    Args:
        path: The source of the arrays, for messages.
        arrays: "x_train", and optionally "y_train", "x_test" and "y_test". Images are (n, h, w), (n, h, w, c) or
            (n, c, h, w), 8-bit or floats in [0, 1]. Labels are integers from 0. Without test images, the training
            images are split.
        class_names: Names of the classes, or empty for "0", "1", ...

    Raises:
        UserError: Images, labels and names are inconsistent, or there are too few images.
    """
    images = {split: _images(path, f"x_{split}", arrays[f"x_{split}"]) for split in SPLIT if f"x_{split}" in arrays}
    labels = {split: arrays[f"y_{split}"] for split in images if f"y_{split}" in arrays}
    if labels and labels.keys() != images.keys():
        raise refusal(path, f"images are {', '.join(images)} and labels {', '.join(labels)}: both splits need labels")
    for split, found in labels.items():
        if found.shape != (len(images[split]),) or found.dtype.kind not in "iu" or (found < 0).any():
            raise refusal(
                path,
                f"y_{split} has shape {found.shape} and type {found.dtype}; {len(images[split]):,} images need as many "
                "labels, whole numbers from 0",
            )
    n_classes = 1 + max((int(found.max()) for found in labels.values() if len(found)), default=-1)
    if n_classes > (n_images := sum(map(len, images.values()))):
        raise refusal(path, f"labels go up to {n_classes - 1}; {n_images:,} images can have at most as many classes")
    if class_names and not len(class_names) == len(different := set(class_names)) == n_classes:
        given = f"class_names: {len(class_names)} given, {len(different)} different"
        raise refusal(path, f"{given}; the labels need {n_classes} different ones")
    names = tuple(class_names or map(str, range(n_classes))) if n_classes > 1 else ()
    datasets = {
        split: ImageDataset(found, small_labels(torch.from_numpy(labels[split]), n_classes) if names else None, names)
        for split, found in images.items()
    }
    train, shape, notes = datasets["train"], datasets["train"].img_shape, list[str]()
    if len({dataset.img_shape for dataset in datasets.values()}) > 1:
        raise refusal(path, f"x_train has images of shape {shape}, x_test of {datasets['test'].img_shape}")
    if (train.images == train.images[:1]).all():
        raise refusal(path, f"its {len(train):,} training images are all the same; at least 2 must differ")
    if "test" in datasets:
        for split, least in ("train", 2 * FEWEST), ("test", FEWEST):  # held-out images are part of x_train
            if len(datasets[split]) < least:
                raise refusal(path, f"x_{split} has {len(datasets[split])} images; at least {least} are needed")
        n_train, n_test = len(train), len(datasets["test"])
    else:
        check_number(path, len(train))
        n_train, n_test = split_sizes(len(train))

    def load(_: Path | None) -> tuple[ImageDataset, ImageDataset]:
        if "test" in datasets:
            return train, datasets["test"]
        return without_copies(train, [f"image {i}" for i in range(len(train))], path, notes)

    return DatasetSource((shape[0], shape[1], shape[2]), n_train, n_test, names, load, notes)


def _images(path: Path, name: str, array: np.ndarray) -> UInt8[Tensor, "n c h w"]:
    """Images in the format in which they are stored."""
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in (1, 3):
        array = np.moveaxis(array, 3, 1)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or min(array.shape[2:]) < SMALLEST:
        raise refusal(
            path,
            f"{name} has shape {array.shape}; (n, h, w), (n, h, w, c) or (n, c, h, w) is needed, with 1 or 3 channels "
            f"and at least {SMALLEST}x{SMALLEST} pixels",
        )
    if array.dtype.kind == "f" and array.size and array.min() >= 0 and array.max() <= 1:
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise refusal(path, f"{name} has type {array.dtype}; images are uint8, or floats from 0 to 1")
    return torch.from_numpy(array.copy())
