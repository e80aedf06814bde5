"""Small data sets out of packages, to try the pipeline on other pictures than FashionMNIST's.

    python -m benchmarks.pictures digits     # .data/digits: 1,797 grey PNG files of 8x8 pixels, a subfolder a class
    python -m benchmarks.pictures clothes    # .data/clothes.npz: 300 grey images of 27x25 pixels, without classes

The digits are scikit-learn's. The clothes are the first training images of FashionMNIST, cut to an odd size.
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
    """Write scikit-learn's digits, of 17 levels of grey, as PNG files; return their folder."""
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
    """Write a few of FashionMNIST's images, whose files are in `source` or are downloaded; return the file."""
    fashion_mnist = DATASETS["fashion_mnist"]
    assert isinstance(fashion_mnist, DatasetSource)
    train, _ = fashion_mnist.load(source)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "clothes.npz", x_train=train.images[:N_CLOTHES, 0, :HEIGHT, 1 : 1 + WIDTH].numpy())
    return folder / "clothes.npz"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("name", choices=("digits", "clothes"))
    options.add_argument("--source", type=Path, help="a folder with FashionMNIST's files; else they are downloaded")
    chosen, folder = options.parse_args(), from_root(FOLDER)
    print(digits(folder) if chosen.name == "digits" else clothes(folder, chosen.source))


if __name__ == "__main__":
    with mistakes_in_one_line("pictures"):
        main()
