"""Atomic file writes, and the file formats of the pipeline."""

import csv
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ddpm.errors import UserError
from ddpm.run.processes import rank

NO_ROOM = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}  # a full disk, a limit on file sizes, a full quota


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Write a file atomically: readers see the old or the new contents, never a partial file.

    Args:
        path: The file. Its folder is created if it does not exist.

    Yields:
        A temporary path in the same folder. It is renamed to `path` on success, and deleted on failure. If processes
        share their work, only the first writes the file. The others get a path that is always deleted.

    Raises:
        UserError: There is no room for the file.
    """
    if rank():
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / Path(path).name
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files private, but an output is an ordinary file
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno not in NO_ROOM:
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: cannot be written ({reason}); the previous file is unchanged") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write named tensors to a safetensors file.

    Args:
        path: The file.
        tensors: Tensors by name, on any device.
        metadata: Metadata with a single key. Safetensors writes several keys in an order that changes from run to run.
    """
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        # save_file would write to a temporary file of its own, which a killed process leaves behind.
        temporary.write_bytes(save(on_cpu, metadata))


def save_tensors(path: Path, **tensors: Tensor) -> None:
    """Write named tensors to a safetensors file."""
    write_tensors(path, tensors)


class _Tensors(dict[str, Tensor]):
    """The tensors of the file at `path`."""

    def __init__(self, path: Path) -> None:
        super().__init__(load_file(path))
        self.path = path

    def __missing__(self, name: str) -> Tensor:
        raise UserError(f"{self.path}: has no {name!r}, only {sorted(self)}; delete it and run `dvc repro`")


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read what `save_tensors` wrote.

    Raises:
        UserError: The file is missing or damaged. The returned dict raises it later for a tensor that the file lacks.
    """
    try:
        return _Tensors(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `dvc repro` to make it") from None
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: damaged or not a safetensors file ({error}); delete it and run `dvc repro`"
        ) from error


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV file, with floats in full precision."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def write_json(path: Path, values: Mapping[str, object]) -> None:
    """Write a JSON object, indented, with sorted keys."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def md5(path: Path) -> str:
    """The MD5 digest of the file, as in dvc.lock."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def tensors_sha256(header: str, tensors: Mapping[str, Tensor]) -> str:
    """A digest of a safetensors file, which itself has none.

    Args:
        header: The file's metadata.
        tensors: Tensors by name, on the CPU.
    """
    digest = hashlib.sha256(header.encode())
    for key, value in sorted(tensors.items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
