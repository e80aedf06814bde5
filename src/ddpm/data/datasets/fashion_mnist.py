"""FashionMNIST (Xiao et al. 2017), from torchvision's mirror, Debian's package or a user's folder.

Whatever the source, the contents of the four files are checked against the published ones.
"""

import gzip
import hashlib
import logging
import shutil
import tempfile
import zlib
from pathlib import Path

import torch

from ddpm.data.dataset import DATASETS, DatasetSource, ImageDataset
from ddpm.data.download import UnusableError, from_debian, from_torchvision
from ddpm.errors import UserError
from ddpm.run.files import atomic_path
from ddpm.run.root import repo_root

logger = logging.getLogger(__name__)

FILES = {  # with the MD5 of their contents, uncompressed
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
LARGEST = 47_040_016  # bytes of a file, uncompressed
CLASS_NAMES = "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"


def load(folder: Path | None = None) -> tuple[ImageDataset, ImageDataset]:
    """The training and the test split.

    Args:
        folder: A folder with the four files, gzipped or not, or None to use the cached files or download them.

    Raises:
        UserError: A file in `folder` is missing or differs from the published one, or no source works.
    """
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        if folder is None:
            _fetch(root)
        else:
            try:
                _unpack(folder, root)
            except UnusableError as error:
                raise UserError(f"params.yaml: data.path is {folder}; {error}; null downloads the data") from None
        return _read(root, train=True), _read(root, train=False)


def _read(root: Path, train: bool) -> ImageDataset:
    from torchvision.datasets import FashionMNIST  # takes seconds to import

    split = FashionMNIST(root, train=train)
    return ImageDataset(split.data[:, None], split.targets.to(torch.uint8), CLASS_NAMES)


def _fetch(root: Path) -> None:
    """Unpack the files of the first source that works, and cache them."""
    kept = repo_root() / ".data/fashion_mnist"
    reasons = []
    for name, serve in (("kept files", lambda _: kept), ("mirror", _from_mirror), ("Debian's package", _from_package)):
        with tempfile.TemporaryDirectory() as scratch:
            try:
                source = serve(Path(scratch))
                _unpack(source, root)
            except UnusableError as error:
                reasons.append(f"{name}: {error}")
                continue
            for file in FILES if source != kept else ():
                with atomic_path(kept / f"{file}.gz") as temporary:
                    shutil.copyfile(source / f"{file}.gz", temporary)
            logger.info("FashionMNIST: from %s (%s)", name, "; ".join(reasons) or "downloaded before")
            return
    raise UserError(
        "\n  ".join(["FashionMNIST: no source works", *reasons])
        + f"\nPut {', '.join(FILES)}, gzipped or not, into a folder and name it in params.yaml: data.path"
    )


def _from_mirror(folder: Path) -> Path:
    from_torchvision("FashionMNIST", folder, LARGEST)
    return folder / "FashionMNIST/raw"


def _from_package(folder: Path) -> Path:
    from_debian("dataset-fashion-mnist", folder)
    return folder / "usr/share/datasets/fashion-mnist"


def _unpack(folder: Path, root: Path) -> None:
    """Check the files in `folder`, and unpack them to where torchvision reads them below `root`."""
    raw = root / "FashionMNIST/raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name, expected in FILES.items():
        path = next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)
        if path is None:
            raise UnusableError(f"{name}.gz is missing")
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                content = file.read(LARGEST + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise UnusableError(f"{path.name} cannot be read ({error})") from None
        if (found := hashlib.md5(content, usedforsecurity=False).hexdigest()) != expected:
            raise UnusableError(f"{path.name} is not the published file (MD5 of its contents: {found}, not {expected})")
        (raw / name).write_bytes(content)


DATASETS.register(__name__, DatasetSource((1, 28, 28), 60_000, 10_000, CLASS_NAMES, load))
