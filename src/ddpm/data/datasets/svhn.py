"""SVHN (Netzer et al. 2011): digits of house numbers, cropped from photographs."""

from ddpm.data.dataset import DATASETS, DatasetSource
from ddpm.data.published import from_class

CLASS_NAMES = tuple("0123456789")

load = from_class("SVHN", ".", CLASS_NAMES, ({"split": "train"}, {"split": "test"}))
DATASETS.register(__name__, DatasetSource((3, 32, 32), 73_257, 26_032, CLASS_NAMES, load))
