"""FashionMNIST: content against torchvision's, each source in turn, and faults of a user's folder."""

import gzip
import hashlib
import os
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mirror import mirror, published
from torchvision.datasets import FashionMNIST

from ddpm.data.dataset import DATASETS
from ddpm.data.datasets import fashion_mnist
from ddpm.data.datasets.fashion_mnist import FILES, load
from ddpm.data.download import UnusableError
from ddpm.errors import UserError

LABELS = "t10k-labels-idx1-ubyte"


@pytest.fixture
def no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new repository, where both the mirror and the package fail."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "repository"))

    def fail(name: str, *_: object) -> None:
        raise UnusableError(f"{name} is down")

    monkeypatch.setattr(fashion_mnist, "from_torchvision", fail)
    monkeypatch.setattr(fashion_mnist, "from_debian", fail)


@pytest.fixture
def folder(fashion_mnist_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with good files, where using another source fails."""
    monkeypatch.setattr(fashion_mnist, "_fetch", lambda _: pytest.fail("went to another source"))
    return shutil.copytree(fashion_mnist_raw, tmp_path / "mine")


def serve_from(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    for path in source.iterdir():
        shutil.copy(path, folder)


def test_files_match_torchvision_checksums(fashion_mnist_raw: Path) -> None:
    files = published(fashion_mnist_raw)
    assert {name: hashlib.md5(data).hexdigest() for name, data in files.items()} == dict(FashionMNIST.resources)
    assert {name: hashlib.md5(gzip.decompress(files[f"{name}.gz"])).hexdigest() for name in FILES} == FILES


def test_loaded_data_match_the_declaration(fashion_mnist_raw: Path) -> None:
    source = DATASETS["fashion_mnist"]
    train, test = source.load(fashion_mnist_raw)
    assert (len(train), len(test)) == (source.n_train, source.n_test) == (60_000, 10_000)
    for dataset in (train, test):
        assert dataset.img_shape == source.img_shape == (1, 28, 28)
        assert dataset.class_names == source.class_names == tuple(FashionMNIST.classes)
        assert dataset.images.dtype == dataset.labels.dtype == torch.uint8


def test_splits_match_their_idx_files(folder: Path) -> None:
    for dataset, split in zip(load(folder), ("train", "t10k"), strict=True):
        images, labels = (
            np.frombuffer(gzip.decompress((folder / f"{split}-{kind}-ubyte.gz").read_bytes()), np.uint8)
            for kind in ("images-idx3", "labels-idx1")
        )
        assert np.array_equal(dataset.images.numpy().ravel(), images[16:])  # after the headers of the IDX format
        assert np.array_equal(dataset.labels.numpy(), labels[8:])


def test_mirror_download_is_cached(
    fashion_mnist_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(fashion_mnist, "from_debian", lambda *_: pytest.fail("went to Debian"))
    files = published(fashion_mnist_raw)
    with mirror(files, "good") as server:
        first = load()
        assert {path.rpartition("/")[2] for path in server.asked} == files.keys()
        assert server.asked[0].startswith(FashionMNIST.mirrors[0])
        server.asked.clear()
        second = load()
        assert not server.asked
    assert {path.name: path.read_bytes() for path in (tmp_path / ".data/fashion_mnist").iterdir()} == files
    for ours, again, reference in zip(first, second, load(fashion_mnist_raw), strict=True):
        assert torch.equal(ours.images, reference.images)
        assert torch.equal(again.images, reference.images)
        assert torch.equal(ours.labels, reference.labels)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("no_source")
def test_debian_package_is_the_fallback_for_the_mirror(
    fashion_mnist_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def from_debian(package: str, folder: Path) -> None:
        assert package == "dataset-fashion-mnist"
        serve_from(fashion_mnist_raw, folder / "usr/share/datasets/fashion-mnist")

    monkeypatch.setattr(fashion_mnist, "from_debian", from_debian)
    caplog.set_level("INFO")
    train, _ = load()
    assert torch.equal(train.labels, load(fashion_mnist_raw)[0].labels)
    assert {path.name for path in (tmp_path / "repository/.data/fashion_mnist").iterdir()} == {f"{n}.gz" for n in FILES}
    assert "from Debian's package" in caplog.messages[0]
    assert "mirror: FashionMNIST is down" in caplog.messages[0]


@pytest.mark.usefixtures("no_source")
def test_damaged_cache_is_downloaded_again(
    fashion_mnist_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "repository/.data/fashion_mnist"
    serve_from(fashion_mnist_raw, kept)
    alter(kept / f"{LABELS}.gz")
    monkeypatch.setattr(
        fashion_mnist,
        "from_torchvision",
        lambda name, folder, _: serve_from(fashion_mnist_raw, folder / name / "raw"),
    )
    load()
    assert (kept / f"{LABELS}.gz").read_bytes() == (fashion_mnist_raw / f"{LABELS}.gz").read_bytes()


@pytest.mark.usefixtures("no_source")
def test_mirror_files_with_wrong_content_are_rejected(
    fashion_mnist_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def from_torchvision(name: str, folder: Path, _: int) -> None:
        serve_from(fashion_mnist_raw, folder / name / "raw")
        other_labels(folder / name / f"raw/{LABELS}.gz")

    monkeypatch.setattr(fashion_mnist, "from_torchvision", from_torchvision)
    with pytest.raises(UserError, match=f"mirror: {LABELS}.gz is not the published file"):
        load()
    assert not (tmp_path / "repository").exists()


@pytest.mark.usefixtures("no_source")
def test_error_without_source_lists_reasons_and_remedy() -> None:
    with pytest.raises(UserError) as caught:
        load()
    message = str(caught.value)
    assert "kept files: train-images-idx3-ubyte.gz is missing" in message
    assert "mirror: FashionMNIST is down" in message
    assert "Debian's package: dataset-fashion-mnist is down" in message
    assert message.endswith("name it in params.yaml: data.path")


def test_uncompressed_files_are_loaded(folder: Path) -> None:
    expected = load(folder)[1]
    for path in folder.iterdir():
        (folder / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert torch.equal(load(folder)[1].images, expected.images)


def alter(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:3000] + bytes([data[3000] ^ 1]) + data[3001:])


def other_labels(path: Path) -> None:
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[-1] = (data[-1] + 1) % 10
    path.write_bytes(gzip.compress(data))


def swap(path: Path) -> None:
    for kind in ("images-idx3", "labels-idx1"):
        train, test = (path.parent / f"{split}-{kind}-ubyte.gz" for split in ("train", "t10k"))
        train.rename(path.parent / "aside")
        test.rename(train)
        (path.parent / "aside").rename(test)


def bomb(path: Path) -> None:
    compressor = zlib.compressobj(9, wbits=31)
    with path.open("wb") as file:  # 500 MB of zeros in 500 kB
        for _ in range(500):
            file.write(compressor.compress(bytes(1_000_000)))
        file.write(compressor.flush())


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (Path.unlink, f"{LABELS}.gz is missing"),
        (lambda path: os.truncate(path, 5000), f"{LABELS}.gz cannot be read"),
        (lambda path: path.write_text("labels"), f"{LABELS}.gz cannot be read"),
        (alter, f"{LABELS}.gz cannot be read|{LABELS}.gz is not the published file"),
        (other_labels, f"{LABELS}.gz is not the published file"),
        (bomb, f"{LABELS}.gz is not the published file"),
        (swap, "train-images-idx3-ubyte.gz is not the published file"),
    ],
    ids=["missing", "truncated", "text", "flipped bit", "other label", "bomb", "train and t10k swapped"],
)
def test_broken_folder_is_rejected_without_fallback(
    folder: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object], reason: str
) -> None:
    damage(folder / f"{LABELS}.gz")
    longest, read = 0, gzip.GzipFile.read

    def noted(file: gzip.GzipFile, size: int | None = -1) -> bytes:
        nonlocal longest
        data = read(file, size)
        longest = max(longest, len(data))
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", noted)
    with pytest.raises(UserError, match=rf"^params\.yaml: data\.path is {re.escape(str(folder))}; ({reason})"):
        load(folder)
    assert longest <= fashion_mnist.LARGEST + 1  # unpacks no more than expected
