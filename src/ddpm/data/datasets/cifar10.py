"""CIFAR-10 (Krizhevsky 2009): photographs of ten kinds of things."""

from ddpm.data.dataset import DATASETS, DatasetSource
from ddpm.data.published import from_class

CLASS_NAMES = "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"
OPTIONS = {"train": True}, {"train": False}

load = from_class("CIFAR10", "cifar-10-batches-py", CLASS_NAMES, OPTIONS)
DATASETS.register(__name__, DatasetSource((3, 32, 32), 50_000, 10_000, CLASS_NAMES, load))
