"""KMNIST (Clanuwat et al. 2018): handwritten characters of classical Japanese."""

from ddpm.data.dataset import DATASETS, DatasetSource
from ddpm.data.published import from_idx

CLASS_NAMES = "o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"

load = from_idx("KMNIST", CLASS_NAMES, {"train": "train", "test": "t10k"})
DATASETS.register(__name__, DatasetSource((1, 28, 28), 60_000, 10_000, CLASS_NAMES, load))
