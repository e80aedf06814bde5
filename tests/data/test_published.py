"""Published data sets: files are read as torchvision reads them, and a failed download is reported in one line."""

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from scipy.io import savemat

from ddpm.data import published
from ddpm.data.dataset import DATASETS
from ddpm.data.download import UnusableError
from ddpm.errors import UserError

RANDOM = np.random.default_rng(0)
IDX = {"mnist": "MNIST", "kmnist": "KMNIST", "emnist": "EMNIST"}
FROM_CLASS = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "svhn": "SVHN"}


def idx_files(folder, prefixes):
    """Write random files, half of them also gzipped."""
    folder.mkdir(parents=True)
    for n, prefix in zip((30, 20), prefixes, strict=True):
        for part, array in (
            ("images-idx3", RANDOM.integers(0, 256, (n, 28, 28), dtype=np.uint8)),
            ("labels-idx1", RANDOM.integers(0, 10, n, dtype=np.uint8)),
        ):
            sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
            content = bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()
            (folder / f"{prefix}-{part}-ubyte").write_bytes(content)  # as torchvision reads it
            if n == 20:
                (folder / f"{prefix}-{part}-ubyte.gz").write_bytes(gzip.compress(content))


@pytest.mark.parametrize(("name", "class_name"), IDX.items())
def test_idx_datasets_match_torchvision(tmp_path, name, class_name):
    options = {"split": "balanced"} if name == "emnist" else {}
    prefixes = ("emnist-balanced-train", "emnist-balanced-test") if name == "emnist" else ("train", "t10k")
    idx_files(tmp_path / class_name / "raw", prefixes)
    for path in (tmp_path, tmp_path / class_name / "raw"):
        for split, train in zip(DATASETS[name].load(path), (True, False), strict=True):
            expected = getattr(torchvision.datasets, class_name)(tmp_path, train=train, **options)
            images = expected.data.mT if name == "emnist" else expected.data
            assert torch.equal(split.images[:, 0], images)
            assert torch.equal(split.labels, expected.targets)
            classes = {k: v.split(" - ")[0] for k, v in enumerate(expected.classes)}
            assert [*split.class_names] == [*classes.values()]
    next((tmp_path / class_name / "raw").glob(f"{prefixes[0]}-labels*")).unlink()
    with pytest.raises(UserError, match=rf"data\.path is .*; {prefixes[0]}-labels-idx1-ubyte.gz is missing"):
        DATASETS[name].load(tmp_path)


@pytest.mark.parametrize(("n", "largest"), [(29, 9), (30, 10)])
def test_labels_that_do_not_match_are_rejected(tmp_path, n, largest):
    idx_files(tmp_path / "files", ("train", "t10k"))
    labels = np.full(n, largest, np.uint8)
    header = bytes((0, 0, 8, 1)) + n.to_bytes(4, "big")
    (tmp_path / "files/train-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    reason = rf"it has labels of shape \({n},\) up to {largest}; 30 images need as many labels, up to 9"
    with pytest.raises(UserError, match=rf"^params\.yaml: data\.path is {tmp_path}/files; {reason}$"):
        DATASETS["mnist"].load(tmp_path / "files")


@pytest.fixture
def without_md5(monkeypatch):
    """torchvision takes random files."""
    for name in ("CIFAR10", "CIFAR100"):
        monkeypatch.setattr(getattr(torchvision.datasets, name), "_check_integrity", lambda _: True)
        monkeypatch.setattr(
            getattr(torchvision.datasets, name), "_load_meta", lambda self: setattr(self, "classes", [])
        )
    monkeypatch.setattr(torchvision.datasets.SVHN, "_check_integrity", lambda _: True)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.usefixtures("without_md5")
def test_cifar_files_are_loaded(tmp_path, name):
    kind = getattr(torchvision.datasets, FROM_CLASS[name])
    folder = tmp_path / kind.base_folder
    folder.mkdir()
    key = "labels" if name == "cifar10" else "fine_labels"
    for file, _ in (*kind.train_list, *kind.test_list):
        data = RANDOM.integers(0, 256, (4, 3072), dtype=np.uint8)
        (folder / file).write_bytes(pickle.dumps({"data": data, key: [0, 1, 2, 3]}))
    last = data.reshape(4, 3, 32, 32)
    for path in (tmp_path, folder):
        train, test = DATASETS[name].load(path)
        assert len(train) == 4 * len(kind.train_list)
        assert np.array_equal(test.images, last)
        assert test.labels.tolist() == [0, 1, 2, 3]


@pytest.mark.usefixtures("without_md5")
def test_svhn_files_are_loaded(tmp_path):
    for split in ("train", "test"):
        data = RANDOM.integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
        savemat(tmp_path / f"{split}_32x32.mat", {"X": data, "y": np.array([[1], [2], [10], [9]])})
    _, test = DATASETS["svhn"].load(tmp_path)
    assert np.array_equal(test.images, data.transpose(3, 2, 0, 1))
    assert test.labels.tolist() == [1, 2, 0, 9]  # 10 means the digit 0


@pytest.mark.parametrize(("name", "n_classes"), [("cifar10", 10), ("cifar100", 100), ("emnist", 47)])
def test_class_names_are_unique_and_sorted(name, n_classes):
    names = DATASETS[name].class_names
    assert len(names) == n_classes
    assert [*names] == sorted({*names})


@pytest.mark.parametrize("name", FROM_CLASS)
def test_load_rejects_folder_without_the_files(tmp_path, name):
    (tmp_path / "train_32x32.mat").write_text("text")
    with pytest.raises(UserError, match=rf"^params\.yaml: data\.path is {tmp_path}; it lacks files of") as caught:
        DATASETS[name].load(tmp_path)
    assert "\n" not in str(caught.value)


def test_download_is_cached_and_failure_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))

    def fail(_name: str, folder: Path, *_: object) -> None:
        (folder / "half").write_text("half")
        raise UnusableError("no network")

    monkeypatch.setattr(published, "from_torchvision", fail)
    with pytest.raises(UserError, match=r"^MNIST cannot be downloaded \(no network\); put its files into a folder and"):
        DATASETS["mnist"].load(None)
    assert [*(tmp_path / ".data").iterdir()] == []

    def serve(name: str, folder: Path, *_: object) -> None:
        idx_files(folder / name / "raw", ("train", "t10k"))
        (folder / "archive.tar.gz").write_text("unpacked")

    monkeypatch.setattr(published, "from_torchvision", serve)
    first = DATASETS["mnist"].load(None)
    monkeypatch.setattr(published, "from_torchvision", lambda *_: pytest.fail("downloads again"))
    again = DATASETS["mnist"].load(None)
    assert torch.equal(first[0].images, again[0].images)
    assert not [*tmp_path.rglob("*.tar.gz")]
