"""MNIST (LeCun et al. 1998): handwritten digits."""

from ddpm.data.dataset import DATASETS, DatasetSource
from ddpm.data.published import from_idx

CLASS_NAMES = tuple("0123456789")

load = from_idx("MNIST", CLASS_NAMES, {"train": "train", "test": "t10k"})
DATASETS.register(__name__, DatasetSource((1, 28, 28), 60_000, 10_000, CLASS_NAMES, load))
