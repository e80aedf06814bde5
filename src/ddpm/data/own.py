"""Images that a user brings along: copies are left out, the rest is split, and what a person should know is noted."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Integer, UInt8
from torch import Tensor

from ddpm.data.dataset import FEWEST, ImageDataset, held_out_by_default
from ddpm.errors import UserError
from ddpm.run.params import PARAMS

LEAST = 3 * FEWEST  # images: for each of the splits
NAMED = 5  # files that a line names


def refusal(path: Path, why: str) -> UserError:
    """The error for data at `path` that cannot be taken, with the reason."""
    return UserError(f"{PARAMS}: data.path is {path}; {why}")


def in_a_line(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


def split_sizes(n_images: int) -> tuple[int, int]:
    """How many of the images are the training split, its held-out ones included, and how many the test split."""
    n_test = held_out_by_default(n_images)
    return n_images - n_test, n_test


def check_number(path: Path, n_images: int) -> None:
    """Raise UserError if there are too few images to train on, to hold out and to test by."""
    if n_images < LEAST:
        raise refusal(path, f"it has {n_images} different images that can be read; at least {LEAST} are needed")


def without_copies(
    dataset: ImageDataset, names: Sequence[str], path: Path, notes: list[str]
) -> tuple[ImageDataset, ImageDataset]:
    """The training and the test split, at random but the same for the same images in any order.

    Images are ordered by a digest of their pixels, so the splits depend neither on their order nor on their names. Of
    images with the same pixels one is kept: a copy in two splits would make the scores wrong.

    Args:
        dataset: All images, 8-bit.
        names: What each image is called, for the notes.
        path: Where they come from.
        notes: Gets a line on copies, if there are any.

    Raises:
        UserError: Too few are left.
    """
    keys = [hashlib.sha256(image.numpy().tobytes()).digest() for image in dataset.images]
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
            f"{len(astray):,} of these copies lie in another class than the image that is kept: {in_a_line(astray)}."
        )


def grey_or_rgb(images: UInt8[Tensor, "n *rest"]) -> UInt8[Tensor, "n c h w"] | None:
    """Images of shape (n, h, w), (n, h, w, c) or (n, c, h, w) as (n, c, h, w); None for another shape."""
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4:
        return None
    if images.shape[1] in (1, 3):
        return images
    return images.movedim(3, 1) if images.shape[3] in (1, 3) else None


def small_labels(labels: Integer[Tensor, " n"], n_classes: int) -> Integer[Tensor, " n"]:
    """Labels in the fewest bytes."""
    return labels.to(torch.uint8 if n_classes <= 256 else torch.int32)
