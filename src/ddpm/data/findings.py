"""A summary of a data set for the user: sizes, classes, and warnings."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from ddpm.data.dataset import ImageDataset
from ddpm.data.own import fingerprints, in_a_line

FEW, FEW_TESTS = 1000, 250  # training images and test images, below which the user is warned
LARGE = 48  # pixels a side
COPIES = 0.01  # fraction of copies that is reported, since fewer hardly change the scores
UNBALANCED = 10  # times as many images in one class as in another


def findings(splits: Mapping[str, ImageDataset], notes: Sequence[str] = ()) -> dict[str, Any]:
    """The contents of `reports/prepare_data/data.json`.

    Args:
        splits: "train", "held_out" and "test".
        notes: Remarks on the files.

    Returns:
        "img_shape", "digest" (a hash of all images and labels), "images" (their number by split), "classes" (the number
        of images by class, in all splits) and "notes" (in full sentences).
    """
    train, test = splits["train"], splits["test"]
    classes = _classes(splits)
    found = list(notes)
    if len(train) < FEW:
        found.append(
            f"Only {len(train):,} training images: a network soon memorises so few. Look first for copies, in the "
            "figure of nearest training images and by duplicates_pixel."
        )
    if len(test) < FEW_TESTS:
        found.append(f"Scores rest on {len(test):,} test images: intervals are wide, and some metrics are left out.")
    height, width = train.img_shape[1:]
    if max(height, width) > LARGE:
        found.append(f"Images of {width}x{height} pixels: training on a CPU is slow.")
    found += _copies(splits)
    if not classes:
        found.append("There are no classes, so metrics that use a classifier's features are left out.")
    elif max(classes.values()) > UNBALANCED * min(classes.values()):
        most, least = (choose(classes, key=lambda name: classes[name]) for choose in (max, min))
        found.append(
            f"Classes are unbalanced: {most} has {classes[most]:,} images, {least} {classes[least]:,}. Samples of an "
            "unconditional network follow the same imbalance."
        )
    trained = _classes({"train": train})
    if missing := [name for name in classes if not trained.get(name)]:
        found.append(f"Classes without training images: {in_a_line(missing)}.")
    return {
        "img_shape": list(train.img_shape),
        "digest": _digest(splits.values()),
        "images": {name: len(dataset) for name, dataset in splits.items()},
        "classes": classes,
        "notes": found,
    }


def _digest(splits: Iterable[ImageDataset]) -> str:
    found = hashlib.sha256()
    for dataset in splits:
        for tensor in (dataset.images, dataset.labels):
            if tensor is not None:
                found.update(tensor.contiguous().numpy().data)
        found.update(repr((dataset.img_shape, dataset.class_names)).encode())
    return found.hexdigest()[:16]


def _copies(splits: Mapping[str, ImageDataset]) -> Iterator[str]:
    """Sentences on duplicates within the training images, and on unseen images that are also training images."""
    keys = {name: fingerprints(dataset.images) for name, dataset in splits.items()}
    known = set(keys["train"])
    if (n := len(keys["train"]) - len(known)) >= COPIES * len(keys["train"]):
        yield f"{n:,} of {len(keys['train']):,} training images are copies of others."
    for name, title in ("held_out", "held-out"), ("test", "test"):
        if (n := sum(key in known for key in keys[name])) >= COPIES * len(keys[name]):
            yield f"{n:,} of {len(keys[name]):,} {title} images are also training images: their scores are too good."


def _classes(splits: Mapping[str, ImageDataset]) -> dict[str, int]:
    """The number of images in each class. Empty for unlabelled data."""
    labels = [dataset.labels for dataset in splits.values() if dataset.labels is not None]
    names = splits["train"].class_names
    if not labels or not names:
        return {}
    return dict(zip(names, torch.cat(labels).long().bincount(minlength=len(names)).tolist(), strict=True))
