"""Files in the IDX format, gzipped or not."""

import gzip
import zlib
from pathlib import Path

import numpy as np

from ddpm.data.own import refusal

MOST_BYTES = 2**31
UINT8 = 8  # the type code of all these files
SUFFIXES = "", ".gz"
PARTS = {"x": "images-idx3-ubyte", "y": "labels-idx1-ubyte"}


def find_idx(folder: Path, name: str) -> Path | None:
    """The file `name` in a folder, gzipped or not, or None if it does not exist."""
    return next((path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file()), None)


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file: two zero bytes, dtype, number of dimensions, their sizes, and the data.

    Raises:
        UserError: The file cannot be read, or is not an IDX file of 8-bit numbers.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MOST_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise refusal(path, f"it cannot be read ({error})") from None
    n_dims = content[3] if len(content) > 3 else 0
    shape = tuple(np.frombuffer(content[4 : 4 + 4 * n_dims], ">u4").tolist())
    if content[:3] != bytes((0, 0, UINT8)) or len(shape) != n_dims:
        raise refusal(path, "it is not an IDX file of 8-bit numbers")
    numbers = np.frombuffer(content, np.uint8, offset=4 + 4 * n_dims)
    if len(numbers) != np.prod(shape, dtype=np.int64):
        raise refusal(path, f"it holds {len(numbers):,} numbers; its header says {' x '.join(map(str, shape))}")
    return numbers.reshape(shape).copy()


def read_splits(folder: Path, prefixes: dict[str, str]) -> dict[str, np.ndarray]:
    """The arrays "x_train", "y_train", ... of those files that exist in a folder.

    Args:
        folder: The folder.
        prefixes: The prefixes of file names by split, such as {"train": "train", "test": "t10k"}.
    """
    paths = {
        f"{key}_{split}": find_idx(folder, f"{prefix}-{part}")
        for split, prefix in prefixes.items()
        for key, part in PARTS.items()
    }
    return {key: read_idx(path) for key, path in paths.items() if path is not None}
