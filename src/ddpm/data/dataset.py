"""Data sets: images, labels and class names, and their registry. Each data set is a file in `datasets/`.

Images are stored in 8 bits. Colour gradients are float32 in [0, 1] instead, since their exact values matter. Networks
take images in [-1, 1] (`ImageDataset.x0`).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from jaxtyping import Float, Integer, Shaped
from pydantic import AfterValidator, model_validator
from safetensors import safe_open
from torch import Tensor

from ddpm.errors import UserError
from ddpm.images import from_uint8, normalize_img
from ddpm.registry import Registry
from ddpm.run.files import load_tensors, write_tensors
from ddpm.run.params import PARAMS, Chooses, PathName, Section
from ddpm.run.root import from_root

SPLITS = "train", "held_out", "test"


@dataclass(frozen=True)
class ImageDataset:
    """A split of a data set.

    Attributes:
        images: (n, channels, height, width), 8-bit, or float in [0, 1].
        labels: Class of each image, from 0, or None for unlabelled data.
        class_names: Names of the classes, in the order of their indices. Empty for unlabelled data.
    """

    images: Shaped[Tensor, "n c h w"]
    labels: Integer[Tensor, " n"] | None = None
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, chosen: slice | Shaped[Tensor, " m"]) -> "ImageDataset":
        labels = None if self.labels is None else self.labels[chosen]
        return replace(self, images=self.images[chosen], labels=labels)

    @property
    def img_shape(self) -> tuple[int, ...]:
        """(channels, height, width)."""
        return tuple(self.images.shape[1:])

    @property
    def x0(self) -> Float[Tensor, "n c h w"]:
        """The images in [-1, 1], as input of a network."""
        return to_x0_range(self.images)

    @property
    def pictures(self) -> Float[Tensor, "n c h w"]:
        """The images in [-1, 1], as input of a conditioning. For latents, these are the images that they encode."""
        return self.x0


def to_x0_range(images: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Map stored images, 8-bit or in [0, 1], to the range of x_0, [-1, 1]."""
    return normalize_img(from_uint8(images) if images.dtype == torch.uint8 else images)


def save_dataset(path: Path, dataset: ImageDataset) -> None:
    """Write a split to a safetensors file."""
    tensors = {"images": dataset.images} | ({} if dataset.labels is None else {"labels": dataset.labels})
    write_tensors(path, tensors, {"class_names": json.dumps(dataset.class_names)})


def load_dataset(path: Path) -> ImageDataset:
    """Read a file written by `save_dataset`.

    Raises:
        UserError: The file is missing, damaged, or not a data set.
    """
    tensors = load_tensors(path)
    with safe_open(path, framework="pt") as file:
        names = json.loads((file.metadata() or {}).get("class_names", "[]"))
    return ImageDataset(tensors["images"], tensors.get("labels"), tuple(names))


@dataclass(frozen=True)
class DatasetSource:
    """A data set: properties that are known before it is loaded, and how to load it.

    Attributes:
        img_shape: (channels, height, width) of its images.
        n_train: Number of images in the training split.
        n_test: Number of images in the test split.
        class_names: Names of its classes. Empty for unlabelled data.
        load: Returns (training split, test split), read from the given folder, or downloaded if it is None.
        notes: Remarks on the files for the user, in full sentences. `load` may add some.
    """

    img_shape: tuple[int, int, int]
    n_train: int
    n_test: int
    class_names: tuple[str, ...]
    load: Callable[[Path | None], tuple[ImageDataset, ImageDataset]]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class OwnImages:
    """A kind of user-supplied data set, whose shape, size and classes are read from the files at `data.path`.

    Attributes:
        Options: The class of its options in params.yaml.
        find: Returns the data set at a path, from the path and its options. It may declare more images than are loaded.
    """

    Options: type[Section]
    find: Callable[[Path, Any], DatasetSource]


DATASETS: Registry[DatasetSource | OwnImages] = Registry("ddpm.data.datasets", "data set")
FEWEST = 24  # minimum for evaluation, so that the half-samples of intervals have enough neighbours
SHARE, MOST = 10, 5000  # default number of held-out images: a tenth, at most 5,000


def held_out_by_default(n_images: int) -> int:
    """The default number of held-out images: a tenth of `n_images`, at least 24 and at most 5,000."""
    return max(FEWEST, min(n_images // SHARE, MOST))


class Data(Chooses):
    """Section `data`: the images that the U-Net is trained on.

    Attributes:
        name: A file in src/ddpm/data/datasets.
        path: Path to its files, or null to download them.
        n_train: Number of training images, from the start of the training split, or null for all but the held-out ones.
        n_held_out: Number of validation images for tuning, from the end of the training split, or null for a tenth (at
            least 24, at most 5,000).
    """

    name: Annotated[str, AfterValidator(DATASETS.checked)]
    path: PathName | None
    n_train: Annotated[int, Ge(2), Le(10_000_000)] | None
    n_held_out: Annotated[int, Ge(1), Le(10_000_000)] | None

    @classmethod
    def registries(cls) -> dict[str, Registry[DatasetSource | OwnImages]]:
        return {"name": DATASETS}

    @cached_property
    def source(self) -> DatasetSource:
        """The data set itself.

        Raises:
            UserError: There is no such data set at `path`.
        """
        entry = DATASETS[self.name]
        if isinstance(entry, DatasetSource):
            return entry
        if self.path is None:
            raise UserError(f"{PARAMS}: data.path is null; data set {self.name} needs a path: -S data.path=...")
        return entry.find(from_root(self.path), self.options("name"))

    @property
    def train_size(self) -> int:
        """The number of training images, if all of them can be read."""
        return self.sizes(self.source.n_train)[0]

    @property
    def held_out_size(self) -> int:
        """The number of held-out images."""
        return self.sizes(self.source.n_train)[1]

    def sizes(self, n_images: int) -> tuple[int, int]:
        """The numbers of training and held-out images, for a training split of `n_images`.

        Raises:
            ValueError: The split has too few images for these params.
        """
        n_held_out = held_out_by_default(n_images) if self.n_held_out is None else self.n_held_out
        n_train = n_images - n_held_out if self.n_train is None else self.n_train
        if not 1 <= n_train <= n_images - n_held_out:
            raise ValueError(
                f"n_train is {self.n_train} and n_held_out {n_held_out}; {self.name} has {n_images} images in its "
                "training split, and held-out ones must not be trained on"
            )
        return n_train, n_held_out

    @model_validator(mode="after")
    def _held_out_is_held_out(self) -> "Data":
        self.sizes(self.source.n_train)
        return self


def split(params: Data) -> dict[str, ImageDataset]:
    """The splits of the data set specified in params: train, held_out and test.

    Raises:
        UserError: The data set cannot be loaded, or differs from what its `DatasetSource` declares.
    """
    source = params.source
    train, test = source.load(None if params.path is None else from_root(params.path))
    for dataset, n in ((train, source.n_train), (test, source.n_test)):
        loaded = len(dataset), dataset.img_shape, dataset.class_names
        declared = n, source.img_shape, source.class_names
        if isinstance(DATASETS[params.name], DatasetSource) and loaded != declared:
            where = DATASETS.module(params.name) if params.path is None else f"{PARAMS}: data.path is {params.path}"
            raise UserError(f"{where}: it loaded {loaded}; its DatasetSource declares {declared}")
    try:
        n_train, n_held_out = params.sizes(len(train))
    except ValueError as error:
        raise UserError(f"{PARAMS}: data: {error}") from None
    return {"train": train[:n_train], "held_out": train[-n_held_out:], "test": test}
