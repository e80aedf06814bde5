"""Images, their labels and the names of their classes: what every data set comes down to.

A data set is a file in `datasets/`. At rest, images are 8-bit (colour gradients, which need their exact values, are
float32 in [0, 1]); networks work on [-1, 1], which `ImageDataset.x0` gives.
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
        labels: The class of each image, from 0; None if it has none.
        class_names: The names of the classes, in the order of their numbers; empty without labels.
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
        """The images in [-1, 1], as networks take them."""
        return to_x0_range(self.images)

    @property
    def pictures(self) -> Float[Tensor, "n c h w"]:
        """What a conditioning sees, in [-1, 1]: the images, or those that latents stand for."""
        return self.x0


def to_x0_range(images: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Images at rest, 8-bit or in [0, 1], in the range of x_0, [-1, 1]."""
    return normalize_img(from_uint8(images) if images.dtype == torch.uint8 else images)


def save_dataset(path: Path, dataset: ImageDataset) -> None:
    """Write a split to a safetensors file."""
    tensors = {"images": dataset.images} | ({} if dataset.labels is None else {"labels": dataset.labels})
    write_tensors(path, tensors, {"class_names": json.dumps(dataset.class_names)})


def load_dataset(path: Path) -> ImageDataset:
    """Read what `save_dataset` wrote.

    Raises:
        UserError: The file is missing, damaged, or not a data set.
    """
    tensors = load_tensors(path)
    with safe_open(path, framework="pt") as file:
        names = json.loads((file.metadata() or {}).get("class_names", "[]"))
    return ImageDataset(tensors["images"], tensors.get("labels"), tuple(names))


@dataclass(frozen=True)
class DatasetSource:
    """A data set: what has to be known before it is loaded, and how that is done.

    Attributes:
        img_shape: (channels, height, width) of its images.
        n_train: Images of its training split.
        n_test: Images of its test split.
        class_names: Names of its classes; empty without labels.
        load: Returns (training split, test split), from the files in a folder, or, if that is None, from wherever they
            are published.
        notes: What a person should know of the files, in sentences; `load` may add some.
    """

    img_shape: tuple[int, int, int]
    n_train: int
    n_test: int
    class_names: tuple[str, ...]
    load: Callable[[Path | None], tuple[ImageDataset, ImageDataset]]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class OwnImages:
    """A kind of data set that a user brings along: shape, number and classes are found where `data.path` points.

    Attributes:
        Options: The class of its options in params.yaml.
        find: Returns the data set at a path, with these options. It may declare more images than will be loaded.
    """

    Options: type[Section]
    find: Callable[[Path, Any], DatasetSource]


DATASETS: Registry[DatasetSource | OwnImages] = Registry("ddpm.data.datasets", "data set")
FEWEST = 24  # images that can be evaluated: half of them, as intervals take, still have neighbours
SHARE, MOST = 10, 5000  # of the images, where params do not say how many to hold out


def held_out_by_default(n_images: int) -> int:
    """How many of `n_images` are held out where params do not say: a tenth, at least 24 and at most 5,000."""
    return max(FEWEST, min(n_images // SHARE, MOST))


class Data(Chooses):
    """Section `data`: the images that the U-Net learns from.

    name: a file in src/ddpm/data/datasets. path: where its files are; null: download them. n_train: images of the
    training split to train on, from its start; null: all but the held-out ones. n_held_out: images of the training
    split that nothing is trained on, from its end; hyper-parameters are chosen by them. null: a tenth, 24 to 5,000.
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
        """The data set itself; UserError if it is not where `path` says."""
        entry = DATASETS[self.name]
        if isinstance(entry, DatasetSource):
            return entry
        if self.path is None:
            raise UserError(f"{PARAMS}: data.path is null; data set {self.name} needs a path: -S data.path=...")
        return entry.find(from_root(self.path), self.options("name"))

    @property
    def train_size(self) -> int:
        """How many images there are to train on, if all can be read."""
        return self.sizes(self.source.n_train)[0]

    @property
    def held_out_size(self) -> int:
        """How many images are held out."""
        return self.sizes(self.source.n_train)[1]

    def sizes(self, n_images: int) -> tuple[int, int]:
        """How many images of a training split of `n_images` are trained on, and how many are held out.

        Raises:
            ValueError: It has fewer than params ask for.
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
    """The splits of the data set that params name: train, held_out and test.

    Raises:
        UserError: The data set cannot be loaded, or is another than its file declares.
    """
    source = params.source
    train, test = source.load(None if params.path is None else from_root(params.path))
    for dataset, n in ((train, source.n_train), (test, source.n_test)):
        loaded = len(dataset), dataset.img_shape, dataset.class_names
        declared = n, source.img_shape, source.class_names
        if isinstance(DATASETS[params.name], DatasetSource) and loaded != declared:
            where = DATASETS.module(params.name) if params.path is None else f"{PARAMS}: data.path is {params.path}"
            raise UserError(f"{where}: it has loaded {loaded}; its DatasetSource says {declared}")
    try:
        n_train, n_held_out = params.sizes(len(train))
    except ValueError as error:
        raise UserError(f"{PARAMS}: data: {error}") from None
    return {"train": train[:n_train], "held_out": train[-n_held_out:], "test": test}
