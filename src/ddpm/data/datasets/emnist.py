"""EMNIST, balanced (Cohen et al. 2017): handwritten digits and letters, which are transposed in the files."""

from dataclasses import replace
from pathlib import Path

from ddpm.data.dataset import DATASETS, DatasetSource, ImageDataset
from ddpm.data.published import from_idx

CLASS_NAMES = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt")
PREFIXES = {"train": "emnist-balanced-train", "test": "emnist-balanced-test"}


def load(path: Path | None) -> tuple[ImageDataset, ImageDataset]:
    """The training and the test split, upright."""
    train, test = from_idx("EMNIST", CLASS_NAMES, PREFIXES, {"split": "balanced"})(path)
    return replace(train, images=train.images.mT.contiguous()), replace(test, images=test.images.mT.contiguous())


DATASETS.register(__name__, DatasetSource((1, 28, 28), 112_800, 18_800, CLASS_NAMES, load))
