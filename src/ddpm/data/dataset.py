"""Images, their labels and the names of their classes: what every data set comes down to.

A data set is a file in `datasets/`. At rest, images are 8-bit (colour gradients, which need their exact values, are
float32 in [0, 1]); networks work on [-1, 1], which `ImageDataset.x0` gives.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

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
from ddpm.run.params import Chooses, PathName
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
    """A data set that params.yaml can name.

    Attributes:
        img_shape: (channels, height, width) of its images.
        n_train: Images of its training split.
        n_test: Images of its test split.
        class_names: Names of its classes; empty without labels.
        load: Returns (training split, test split), from the files in a folder, or, if that is None, from wherever they
            are published.
    """

    img_shape: tuple[int, int, int]
    n_train: int
    n_test: int
    class_names: tuple[str, ...]
    load: Callable[[Path | None], tuple[ImageDataset, ImageDataset]]


DATASETS: Registry[DatasetSource] = Registry("ddpm.data.datasets", "data set")


class Data(Chooses):
    """Section `data`: the images that the U-Net learns from.

    name: a file in src/ddpm/data/datasets. path: a folder that holds its files; null: download them. n_train: images
    of the training split to train on, from its start; null: all but the held-out ones. n_held_out: images of the
    training split that nothing is trained on, from its end; hyper-parameters are chosen by them.
    """

    name: Annotated[str, AfterValidator(DATASETS.checked)]
    path: PathName | None
    n_train: Annotated[int, Ge(2), Le(10_000_000)] | None
    n_held_out: Annotated[int, Ge(1), Le(10_000_000)]

    @classmethod
    def registries(cls) -> dict[str, Registry[DatasetSource]]:
        return {"name": DATASETS}

    @property
    def source(self) -> DatasetSource:
        """The data set itself."""
        return DATASETS[self.name]

    @property
    def train_size(self) -> int:
        """How many images there are to train on."""
        return self.source.n_train - self.n_held_out if self.n_train is None else self.n_train

    @model_validator(mode="after")
    def _held_out_is_held_out(self) -> "Data":
        if not 1 <= self.train_size <= self.source.n_train - self.n_held_out:
            raise ValueError(
                f"n_train is {self.n_train} and n_held_out {self.n_held_out}; {self.name} has {self.source.n_train} "
                "images in its training split, and held-out ones must not be trained on"
            )
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
        if loaded != declared:
            raise UserError(
                f"{DATASETS.module(params.name)}: it has loaded {loaded}; its DatasetSource says {declared}"
            )
    return {"train": train[: params.train_size], "held_out": train[-params.n_held_out :], "test": test}
