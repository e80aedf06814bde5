"""IDX files with the names of MNIST's: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-..., gzipped or not.

Labels are optional. Test images are optional too: without them, the training images are split.
"""

from pathlib import Path

from ddpm.data.dataset import DATASETS, DatasetSource, OwnImages
from ddpm.data.idx_files import read_splits
from ddpm.data.own import check_folder, from_arrays, refusal
from ddpm.run.params import NoOptions


def find(folder: Path, _: NoOptions) -> DatasetSource:
    """Read the files of a folder.

    Raises:
        UserError: They are not IDX files, or they are inconsistent.
    """
    check_folder(folder)
    arrays = read_splits(folder, {"train": "train", "test": "t10k"})
    if "x_train" not in arrays:
        raise refusal(folder, "it has no train-images-idx3-ubyte, gzipped or not")
    return from_arrays(folder, arrays)


DATASETS.register(__name__, OwnImages(NoOptions, find))
