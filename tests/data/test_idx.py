"""The parser of FashionMNIST's files: against torchvision's, and on files with every fault."""

import gzip
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torchvision.datasets.mnist import read_image_file, read_label_file

from ddpm.data.datasets.fashion_mnist import read_images, read_labels
from ddpm.errors import UserError

IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"


def flip_byte(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_parser_agrees_with_torchvision(fashion_mnist_raw: Path, tmp_path: Path) -> None:
    for name in (IMAGES, LABELS):
        (tmp_path / name).write_bytes(gzip.decompress((fashion_mnist_raw / name).read_bytes()))
    images, labels = read_images(fashion_mnist_raw / IMAGES), read_labels(fashion_mnist_raw / LABELS)
    assert images.dtype == labels.dtype == torch.uint8
    assert images.shape == (10_000, 1, 28, 28)
    assert torch.equal(images[:, 0], read_image_file(str(tmp_path / IMAGES)))
    assert torch.equal(labels.long(), read_label_file(str(tmp_path / LABELS)))


def idx(magic: int, *dims: int, data: bytes = b"") -> bytes:
    return gzip.compress(struct.pack(f">{1 + len(dims)}I", magic, *dims) + data, mtime=0)


GOOD_LABELS = idx(0x801, 3, data=b"\0\1\2")


def test_smallest_good_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "labels.gz").write_bytes(GOOD_LABELS)
    (tmp_path / "images.gz").write_bytes(idx(0x803, 2, 28, 28, data=bytes(range(196)) * 8))
    assert read_labels(tmp_path / "labels.gz").tolist() == [0, 1, 2]
    assert read_images(tmp_path / "images.gz").flatten().tolist() == list(range(196)) * 8


@pytest.mark.parametrize(
    ("read", "content", "reason"),
    [
        (read_labels, b"plain text", "gzip"),
        (read_labels, b"", "nothing"),
        (read_labels, GOOD_LABELS[:-9], "ended"),
        (read_labels, flip_byte(GOOD_LABELS, len(GOOD_LABELS) - 8), "CRC"),
        (read_labels, GOOD_LABELS[:10] + b"\xff" + GOOD_LABELS[11:], "while decompressing"),
        (read_labels, idx(0x803, 3, data=b"\0\1\2"), "00 00 08 03"),
        (read_labels, gzip.compress(b"\0\0\x08\1\0", mtime=0), "00 00 08 01"),
        (read_images, idx(0x801, 3, data=b"\0\1\2"), "00 00 08 01"),
        (read_images, idx(0x803, 1, 28, 27, data=bytes(756)), r"\(28, 27\) found, \(28, 28\) expected"),
        (read_images, idx(0x803, 0, 28, 28), "0 items"),
        (read_images, idx(0x803, 2**32 - 1, 28, 28), "4294967295 items"),
        (read_labels, idx(0x801, 4, data=b"\0\1\2"), "4 bytes announced, 3 bytes found"),
        (read_labels, idx(0x801, 2, data=b"\0\1\2"), "2 bytes announced, more found"),
        (read_labels, idx(0x801, 2, data=b"\0\x0a"), "label 10 found"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_malformed_file_is_named_with_the_fault(
    tmp_path: Path, read: Callable[[Path], torch.Tensor], content: bytes, reason: str
) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: .*{reason}"):
        read(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"labels\.gz: no such file"):
        read_labels(tmp_path / "labels.gz")


def test_gzip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked = 0
    decompress = gzip.GzipFile.read

    def counting(file: gzip.GzipFile, size: int | None = -1) -> bytes:
        nonlocal unpacked
        data = decompress(file, size)
        unpacked += len(data)
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", counting)
    compressor = zlib.compressobj(9, wbits=31)
    with (tmp_path / "bomb.gz").open("wb") as file:  # 50 MB of zeros in 50 kB
        file.write(compressor.compress(struct.pack(">2I", 0x801, 60_000)))
        for _ in range(50):
            file.write(compressor.compress(bytes(1_000_000)))
        file.write(compressor.flush())
    with pytest.raises(UserError, match="60000 bytes announced, more found"):
        read_labels(tmp_path / "bomb.gz")
    assert unpacked == 8 + 60_001
