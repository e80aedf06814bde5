"""An .npz file of NumPy arrays: x_train, and optionally y_train, x_test, y_test and class_names."""

import zipfile
from pathlib import Path

import numpy as np

from ddpm.data.dataset import DATASETS, DatasetSource, OwnImages
from ddpm.data.own import from_arrays, refusal
from ddpm.run.params import NoOptions


def find(path: Path, _: NoOptions) -> DatasetSource:
    """Read a file, without unpickling anything.

    Raises:
        UserError: It is not an .npz file, or its arrays are inconsistent.
    """
    if not path.is_file():
        raise refusal(path, "there is no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile):  # TypeError for a .npy file
        raise refusal(path, "it is not an .npz file, or its arrays hold Python objects, which are not read") from None
    if "x_train" not in arrays:
        raise refusal(path, f"it has no x_train; its arrays are {', '.join(arrays) or 'none'}")
    return from_arrays(path, arrays, [str(name) for name in np.ravel(arrays.get("class_names", ()))])


DATASETS.register(__name__, OwnImages(NoOptions, find))
