"""Small data sets from installed packages, to try the pipeline on images other than FashionMNIST.

    python -m benchmarks.pictures digits     # .data/digits: 1,797 grey 8x8 PNG files, one subfolder per class
    python -m benchmarks.pictures clothes    # .data/clothes.npz: 300 grey 27x25 images without classes

The digits are scikit-learn's. The clothes are the first training images of FashionMNIST, cropped to an odd size.
"""

from pathlib import Path

import numpy as np
import torch

from benchmarks.core.options import parser
from ddpm.data.dataset import DATASETS, DatasetSource
from ddpm.output import write_pngs
from ddpm.run.root import from_root
from ddpm.run.stage import mistakes_in_one_line

FOLDER = ".data"
N_CLOTHES, HEIGHT, WIDTH = 300, 27, 25


def digits(folder: Path) -> Path:
    """Write scikit-learn's digits, which have 17 grey levels, as PNG files, and return their folder."""
    from sklearn.datasets import load_digits  # slow to import

    found = load_digits()
    images, labels = (
        torch.from_numpy(found.images * (255 / 16)).to(torch.uint8)[:, None],
        torch.from_numpy(found.target),
    )
    for label in labels.unique().tolist():
        write_pngs(folder / "digits" / str(label), images[labels == label])
    return folder / "digits"


def clothes(folder: Path, source: Path | None) -> Path:
    """Write some FashionMNIST images, read from `source` or downloaded, to one file, and return its path."""
    fashion_mnist = DATASETS["fashion_mnist"]
    assert isinstance(fashion_mnist, DatasetSource)
    train, _ = fashion_mnist.load(source)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "clothes.npz", x_train=train.images[:N_CLOTHES, 0, :HEIGHT, 1 : 1 + WIDTH].numpy())
    return folder / "clothes.npz"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("name", choices=("digits", "clothes"))
    options.add_argument("--source", type=Path, help="a folder with FashionMNIST's files; default: download them")
    chosen, folder = options.parse_args(), from_root(FOLDER)
    print(digits(folder) if chosen.name == "digits" else clothes(folder, chosen.source))


if __name__ == "__main__":
    with mistakes_in_one_line("pictures"):
        main()
