"""FashionMNIST (Xiao et al. 2017): the four original files from whichever source has them, and their tensors.

`fetch` ends with the same bytes whichever source served; `read_images` and `read_labels` take nothing on trust.
"""

import gzip
import hashlib
import http.client
import logging
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from ddpm.errors import UserError
from ddpm.run.files import atomic_path

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resource:
    """One file of the data set; `written` is the time that its gzip header carries, in Unix seconds."""

    name: str
    size: int
    md5: str
    written: int

    @property
    def header(self) -> bytes:
        """The file's own gzip header (RFC 1952, section 2.3): deflate, with a time and the name, made on Unix."""
        start = struct.pack("<4BI2B", 0x1F, 0x8B, 8, 8, self.written, 0, 3)
        return start + self.name.removesuffix(".gz").encode() + b"\0"

    @property
    def bare_size(self) -> int:
        """The file's size under the shortest gzip header, of ten bytes and without a name."""
        return self.size - len(self.header) + 10


RESOURCES = (
    Resource("train-images-idx3-ubyte.gz", 26421880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d", 1504176606),
    Resource("train-labels-idx1-ubyte.gz", 29515, "25c81989df183df01b3e8a0aad5dffbe", 1504176606),
    Resource("t10k-images-idx3-ubyte.gz", 4422102, "bef4ecab320f06d8554ea6380940ec79", 1504176627),
    Resource("t10k-labels-idx1-ubyte.gz", 5148, "bb300cfdad3c16e7a12a480ee83cd310", 1504176627),
)
MIRRORS = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)  # torchvision's
DEBIAN_PACKAGE = "dataset-fashion-mnist"
MAX_COUNT = 60_000  # images or labels in the largest file
SLOWEST = 20_000  # bytes a second; a mirror that gives less is given up
APT_LIMIT = 600  # seconds for one call of apt-get


class _Unusable(Exception):
    """A source that cannot serve, with the reason."""


def fetch(raw_dir: Path, folder: Path | None = None, timeout: float = 10.0) -> str:
    """Put the four original .gz files into `raw_dir`; return the name of the source that served.

    Sources, in turn: torchvision's mirrors, then Debian's package, unpacked in a temporary folder without root. With
    `folder` that folder alone: who names one does not want another. A file gets its final name only after its size and
    MD5 are found right, and files that are right already are kept.

    Args:
        raw_dir: where the files go; made if missing.
        folder: a folder with the four files, as published or as Debian packs them.
        timeout: seconds to wait for a server that says nothing.

    Raises:
        UserError: `raw_dir` cannot be written, `folder` lacks a file or holds a wrong one, or no source works.
    """
    try:
        raw_dir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=raw_dir).close()
    except OSError as error:
        raise UserError(
            f"{raw_dir}: cannot write there ({error.strerror}); free it or choose another folder"
        ) from error
    try:
        missing = [resource for resource in RESOURCES if _fault(raw_dir / resource.name, resource)]
    except OSError as error:
        raise UserError(f"{error.filename}: cannot read it ({error.strerror}); delete it and run again") from error
    if not missing:
        return "already there"

    if folder is not None:
        try:
            _from_folder(folder, missing, raw_dir)
        except (_Unusable, OSError) as error:
            raise UserError(
                f"{error}; mend the folder, or set download_fashion_mnist.folder to null in params.yaml to download"
            ) from error
        return f"folder {folder}"

    sources: dict[str, Callable[[list[Resource], Path], None]] = {
        f"mirror {url}": partial(_from_mirror, url, timeout) for url in MIRRORS
    }
    sources[f"Debian package {DEBIAN_PACKAGE}"] = partial(_from_debian, timeout)
    failures = []
    for name, serve in sources.items():
        try:
            serve(missing, raw_dir)
        except (_Unusable, OSError, ValueError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            logger.warning("FashionMNIST: %s failed: %s", name, reason)
            failures.append(f"\n  {name}: {reason}")
        else:
            logger.info("FashionMNIST: served by %s", name)
            return name
    names = ", ".join(resource.name for resource in RESOURCES)
    raise UserError(
        f"FashionMNIST: no source works.{''.join(failures)}\nPut the four files ({names}) into a folder and name that "
        "folder in params.yaml (download_fashion_mnist.folder)."
    )


def _fault(path: Path, resource: Resource) -> str | None:
    """What makes the file at `path` another than `resource`; None where nothing does."""
    if not path.is_file():
        return "no such file"
    size = path.stat().st_size
    if size != resource.size:
        return f"{size} bytes found, {resource.size} expected"
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
    return None if md5 == resource.md5 else f"MD5 {md5} found, {resource.md5} expected"


def _from_folder(folder: Path, resources: list[Resource], raw_dir: Path) -> None:
    """Copy files that are as published, or that differ only in a bare gzip header, as Debian's do."""
    for resource in resources:
        source = folder / resource.name
        bare = source.is_file() and source.stat().st_size == resource.bare_size
        if not bare and (fault := _fault(source, resource)):
            raise _Unusable(f"{source}: {fault}")
        with atomic_path(raw_dir / resource.name) as temporary:
            if bare:
                temporary.write_bytes(resource.header + source.read_bytes()[10:])
            else:
                shutil.copyfile(source, temporary)
            if fault := _fault(temporary, resource):
                raise _Unusable(f"{source}: {fault}{' (with the published gzip header put back)' if bare else ''}")


class _Connection(http.client.HTTPConnection):
    """A connection whose timeout covers all addresses of a host; the standard one waits as long for each of them."""

    def connect(self) -> None:
        deadline = time.monotonic() + (self.timeout or 0)
        failure = OSError(f"{self.host} has no address")
        for *_, (address, port, *_) in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
            left = max(deadline - time.monotonic(), 0.001)
            try:
                self.sock = socket.create_connection((str(address), port), left)
            except OSError as error:
                failure = error
            else:
                self.sock.settimeout(self.timeout)
                return
        raise failure


class _Handler(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, request)


def _from_mirror(url: str, timeout: float, resources: list[Resource], raw_dir: Path) -> None:
    """Download over HTTP; an answer that is too long, too slow or silent is cut off."""
    opener = urllib.request.build_opener(_Handler)
    for resource in resources:
        with (
            opener.open(url + resource.name, timeout=timeout) as response,
            atomic_path(raw_dir / resource.name) as temporary,
            tqdm(total=resource.size, desc=resource.name, unit="B", unit_scale=True, disable=None) as progress,
        ):
            start = time.monotonic()
            received = 0
            with temporary.open("wb") as file:
                while chunk := response.read1(1 << 16):  # read() would wait for the whole chunk, however slow
                    received += len(chunk)
                    if received > resource.size:
                        raise _Unusable(f"{resource.name}: more than the expected {resource.size} bytes")
                    if time.monotonic() - start > timeout + received / SLOWEST:
                        raise _Unusable(f"{resource.name}: slower than {SLOWEST} bytes a second")
                    file.write(chunk)
                    progress.update(len(chunk))
            if fault := _fault(temporary, resource):
                raise _Unusable(f"{resource.name}: {fault}")


def _from_debian(timeout: float, resources: list[Resource], raw_dir: Path) -> None:
    """Download and unpack Debian's package with apt's state in a temporary folder, so that nothing is installed."""
    for command in ("apt-get", "dpkg-deb"):
        if shutil.which(command) is None:
            raise _Unusable(f"no {command} on this machine")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = {
            "Dir::State": folder / "state",
            "Dir::Cache": folder / "cache",
            "Acquire::Languages": "none",
            "Acquire::Retries": 0,
            "Acquire::http::Timeout": max(1, round(timeout)),
            "Acquire::https::Timeout": max(1, round(timeout)),
        }
        apt_get = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in options.items())]
        (folder / "state").mkdir()
        (folder / "cache").mkdir()
        # One broken repository among the system's fails the update, yet ours may be there: the download decides.
        update = _run([*apt_get, "update"], folder)
        download = _run([*apt_get, "download", DEBIAN_PACKAGE], folder)
        package = next(folder.glob(f"{DEBIAN_PACKAGE}_*.deb"), None)
        if download.returncode != 0 or package is None:
            complaints = (update.stderr + download.stderr).strip().splitlines()
            ends = dict.fromkeys([*complaints[:1], *complaints[-1:]])  # cause and consequence; the rest repeats them
            raise _Unusable(f"apt-get: {'; '.join(ends) or 'gave no package'}")
        unpack = _run(["dpkg-deb", "-x", str(package), "unpacked"], folder)
        if unpack.returncode != 0:
            raise _Unusable(f"dpkg-deb: {unpack.stderr.strip()}")
        _from_folder(folder / "unpacked/usr/share/datasets/fashion-mnist", resources, raw_dir)


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=APT_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _Unusable(f"{command[0]}: not done after {APT_LIMIT} s") from None


def read_images(path: Path) -> UInt8[Tensor, "n 1 28 28"]:
    """Grey images, 0 black to 255, from a gzipped IDX file; UserError where it is malformed."""
    return _read_idx(path, (28, 28)).unsqueeze(1)


def read_labels(path: Path) -> UInt8[Tensor, " n"]:
    """Class numbers 0..9 from a gzipped IDX file; UserError where it is malformed."""
    labels = _read_idx(path, ())
    if labels.max() > 9:
        raise UserError(f"{path}: label {labels.max()} found, 0 to 9 expected; delete it and fetch it again")
    return labels


def _read_idx(path: Path, item: tuple[int, ...]) -> UInt8[Tensor, "n ..."]:
    """Read n unsigned bytes of shape `item`; n comes from the file and never makes it read more than the data set has.

    The format: 0, 0, type (8: unsigned byte), number of dimensions, each dimension as 4 bytes big-endian, the data.
    """
    num_dims = 1 + len(item)
    try:
        with gzip.open(path) as file:
            header = file.read(4 + 4 * num_dims)
            if len(header) < 4 + 4 * num_dims or header[:4] != bytes((0, 0, 8, num_dims)):
                raise ValueError(f"starts with {header[:4].hex(' ') or 'nothing'}, not with IDX's 00 00 08 0{num_dims}")
            n, *shape = struct.unpack(f">{num_dims}I", header[4:])
            if tuple(shape) != item:
                raise ValueError(f"items of shape {tuple(shape)} found, {item} expected")
            if not 1 <= n <= MAX_COUNT:
                raise ValueError(f"{n} items announced, 1 to {MAX_COUNT} expected")
            size = n * torch.Size(item).numel()
            data = file.read(size + 1)  # one more than there should be also makes gzip check its sums at the end
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `dvc repro` to fetch it") from None
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a FashionMNIST file: {error}; delete it and fetch it again") from error
    if len(data) != size:
        found = f"{len(data)} bytes" if len(data) < size else "more"
        raise UserError(f"{path}: {size} bytes announced, {found} found; delete it and fetch it again")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(n, *item)
