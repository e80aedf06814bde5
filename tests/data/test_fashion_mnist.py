"""FashionMNIST: every source, good and bad, on local servers and real files."""

import hashlib
import os
import re
import shutil
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from torchvision.datasets import FashionMNIST

from ddpm.data.datasets import fashion_mnist
from ddpm.data.datasets.fashion_mnist import MIRRORS, RESOURCES, fetch
from ddpm.errors import UserError

IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
TIMEOUT = 0.3


def md5s(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def flip_byte(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.fixture
def only_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetch the smallest file only: where a source fails, one file shows it."""
    monkeypatch.setattr(fashion_mnist, "RESOURCES", tuple(r for r in RESOURCES if r.name == LABELS))


@pytest.fixture
def no_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without apt-get; the returned folder is all of its PATH."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


class Mirror(ThreadingHTTPServer):
    """Answers /BEHAVIOUR/NAME on 127.0.0.1 and notes what lay in `watched` when it had sent half of a file."""

    daemon_threads = True

    def __init__(self, raw: Path, watched: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.raw, self.watched = raw, watched
        self.seen: list[str] = []
        self.closing = threading.Event()

    def url(self, behaviour: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{behaviour}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that hang up are what the tests are about."""


class Answer(BaseHTTPRequestHandler):
    server: Mirror

    def log_message(self, format: str, *args: object) -> None:
        pass

    def send(self, data: bytes, length: int | None = None) -> None:
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        _, behaviour, name = self.path.split("/")
        data = (self.server.raw / name).read_bytes() if name in {r.name for r in RESOURCES} else b""
        wait = self.server.closing.wait
        match behaviour:
            case "good":
                self.send(data, len(data))
            case "missing":
                self.send_error(404)
            case "truncated":
                self.send(data[:-1], len(data) - 1)
            case "cut":
                self.send(data[:-1], len(data))
            case "altered":
                self.send(flip_byte(data, 2000), len(data))
            case "silent":
                wait(5)
            case "stalls":
                self.send(data[: len(data) // 2], len(data))
                time.sleep(TIMEOUT / 2)
                self.server.seen += [path.name for path in self.server.watched.iterdir()]
                wait(5)
            case "trickles":
                self.send(b"", len(data))
                for byte in data[:200]:  # 4 s, so that a fetcher that waits for all of it fails
                    self.wfile.write(bytes([byte]))
                    wait(0.02)
            case "endless":
                self.send(b"")
                for _ in range(100):  # 6 MB, against 5 kB expected, so that a fetcher without a bound fails
                    self.wfile.write(bytes(1 << 16))
            case "portal" | "nowhere" | "loop":
                targets = {"portal": self.server.url("page") + "x", "nowhere": "http://../", "loop": self.path}
                self.send_response(302)
                self.send_header("Location", targets[behaviour])
                self.end_headers()
            case "page":
                self.send(b"<html>Please log in</html>")
            case "rubbish":
                self.wfile.write(b"who are you?\r\n\r\n")


@pytest.fixture
def mirror(fashion_mnist_raw: Path, tmp_path: Path) -> Iterator[Mirror]:
    with Mirror(fashion_mnist_raw, tmp_path / "raw") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


def test_names_md5s_and_mirrors_are_torchvisions() -> None:
    assert {r.name: r.md5 for r in RESOURCES} == dict(FashionMNIST.resources)
    assert list(MIRRORS) == FashionMNIST.mirrors


def test_sizes_and_headers_are_the_real_files(fashion_mnist_raw: Path) -> None:
    assert md5s(fashion_mnist_raw) == dict(FashionMNIST.resources)
    for resource in RESOURCES:
        data = (fashion_mnist_raw / resource.name).read_bytes()
        assert len(data) == resource.size
        assert data.startswith(resource.header)


def test_good_mirror_serves_all_four(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fashion_mnist, "MIRRORS", (mirror.url("good"),))
    assert fetch(tmp_path / "raw") == f"mirror {mirror.url('good')}"
    assert md5s(tmp_path / "raw") == dict(FashionMNIST.resources)
    assert capfd.readouterr() == ("", "")  # not a terminal, so no progress either


def test_right_files_are_kept_and_a_wrong_one_is_replaced(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fashion_mnist_raw: Path
) -> None:
    raw = shutil.copytree(fashion_mnist_raw, tmp_path / "raw")
    monkeypatch.setattr(fashion_mnist, "MIRRORS", (mirror.url("good"),))
    kept = (raw / IMAGES).stat().st_ino
    (raw / LABELS).write_bytes(flip_byte((raw / LABELS).read_bytes(), 3000))
    assert fetch(raw).startswith("mirror")
    assert md5s(raw) == dict(FashionMNIST.resources)
    assert (raw / IMAGES).stat().st_ino == kept
    monkeypatch.setattr(fashion_mnist, "MIRRORS", ())
    assert fetch(raw) == "already there"


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("missing", "HTTP Error 404"),
        ("truncated", "t10k-labels-idx1-ubyte.gz: 5147 bytes found, 5148 expected"),
        ("cut", "t10k-labels-idx1-ubyte.gz: 5147 bytes found, 5148 expected"),
        ("altered", r"t10k-labels-idx1-ubyte.gz: MD5 [0-9a-f]{32} found, bb300cfdad3c16e7a12a480ee83cd310 expected"),
        ("silent", "timed out"),
        ("stalls", "timed out"),
        ("trickles", "slower than 20000 bytes a second"),
        ("endless", "more than the expected 5148 bytes"),
        ("portal", "t10k-labels-idx1-ubyte.gz: 26 bytes found, 5148 expected"),
        ("nowhere", ""),
        ("loop", "redirect"),
        ("rubbish", "who are you"),
    ],
)
@pytest.mark.usefixtures("only_labels", "no_apt")
def test_bad_mirror_gives_its_reason_and_leaves_nothing(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str, reason: str
) -> None:
    monkeypatch.setattr(fashion_mnist, "MIRRORS", (mirror.url(behaviour),))
    start = time.monotonic()
    with pytest.raises(UserError, match=f"mirror {re.escape(mirror.url(behaviour))}: .*{reason}"):
        fetch(tmp_path / "raw", timeout=TIMEOUT)
    assert time.monotonic() - start < 3  # ten timeouts
    assert list((tmp_path / "raw").iterdir()) == []
    assert LABELS not in mirror.seen
    assert bool(mirror.seen) == (behaviour == "stalls")  # a temporary name was there while half had come


@pytest.mark.usefixtures("only_labels")
def test_next_mirror_serves_when_one_fails(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fashion_mnist, "MIRRORS", (mirror.url("altered"), mirror.url("good")))
    assert fetch(tmp_path / "raw") == f"mirror {mirror.url('good')}"
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"mirror {mirror.url('altered')} failed: {LABELS}: MD5" in record.message


@pytest.mark.usefixtures("only_labels", "no_apt")
def test_timeout_covers_all_addresses_of_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)  # with its queue full, Linux drops further calls as a firewall does
        for caller in (first, second):
            caller.setblocking(False)
            caller.connect_ex(deaf.getsockname())
        real = socket.getaddrinfo

        def eight(host: str, *args: int, **options: int) -> Sequence[object]:
            return real("127.0.0.1", *args, **options) * 8 if host == "mirror.test" else real(host, *args, **options)

        monkeypatch.setattr(socket, "getaddrinfo", eight)
        monkeypatch.setattr(fashion_mnist, "MIRRORS", (f"http://mirror.test:{deaf.getsockname()[1]}/",))
        start = time.monotonic()
        with pytest.raises(UserError, match="timed out"):
            fetch(tmp_path / "raw", timeout=TIMEOUT)
    assert TIMEOUT <= time.monotonic() - start < 4 * TIMEOUT


@pytest.mark.usefixtures("no_apt")
def test_no_source_lists_each_with_its_reason_and_the_way_out(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_mnist, "MIRRORS", (mirror.url("missing"), mirror.url("truncated")))
    with pytest.raises(UserError) as caught:
        fetch(tmp_path / "raw")
    message = str(caught.value)
    assert f"mirror {mirror.url('missing')}: HTTP Error 404" in message
    assert f"mirror {mirror.url('truncated')}: train-images-idx3-ubyte.gz: 26421879 bytes" in message
    assert "Debian package dataset-fashion-mnist: no apt-get on this machine" in message
    assert "download_fashion_mnist.folder" in message


def test_failing_apt_gives_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_apt: Path) -> None:
    monkeypatch.setattr(fashion_mnist, "MIRRORS", ())
    for command in ("apt-get", "dpkg-deb"):
        (no_apt / command).write_text("#!/bin/sh\necho 'E: Unable to locate package' >&2\nexit 100\n")
        (no_apt / command).chmod(0o755)
    with pytest.raises(UserError, match="Debian package dataset-fashion-mnist: apt-get: E: Unable to locate package\n"):
        fetch(tmp_path / "raw")


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt-get is not on this machine")
def test_debian_package_serves_the_published_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fashion_mnist, "MIRRORS", ())
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert fetch(tmp_path / "raw") == "Debian package dataset-fashion-mnist"
    assert md5s(tmp_path / "raw") == dict(FashionMNIST.resources)
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def folder(fashion_mnist_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, with good files; to go to another source is a mistake."""
    monkeypatch.setattr(fashion_mnist, "_from_mirror", lambda *_: pytest.fail("went to a mirror"))
    monkeypatch.setattr(fashion_mnist, "_from_debian", lambda *_: pytest.fail("went to Debian"))
    (tmp_path / "mine").mkdir()
    for resource in fashion_mnist.RESOURCES:
        shutil.copy(fashion_mnist_raw / resource.name, tmp_path / "mine")
    return tmp_path / "mine"


def test_folder_serves(folder: Path, tmp_path: Path) -> None:
    assert fetch(tmp_path / "raw", folder) == f"folder {folder}"
    assert md5s(tmp_path / "raw") == dict(FashionMNIST.resources)


def test_folder_with_bare_gzip_headers_serves_the_published_files(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        data = path.read_bytes()
        deflated = data[data.index(b"\0", 10) + 1 :]  # behind the fixed ten bytes and the name
        path.write_bytes(b"\x1f\x8b\x08\x00" + struct.pack("<I", 1_591_347_949) + b"\0\3" + deflated)
    fetch(tmp_path / "raw", folder)
    assert md5s(tmp_path / "raw") == dict(FashionMNIST.resources)


def delete(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    os.truncate(path, 5000)


def alter(path: Path) -> None:
    path.write_bytes(flip_byte(path.read_bytes(), 3000))


def alter_bare(path: Path) -> None:
    path.write_bytes(flip_byte(path.read_bytes(), 3000)[len(path.stem) + 1 :])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (delete, "no such file"),
        (truncate, "5000 bytes found, 5148 expected"),
        (alter, "MD5 [0-9a-f]{32} found, bb300cfdad3c16e7a12a480ee83cd310 expected"),
        (alter_bare, "MD5 [0-9a-f]{32} found, .*with the published gzip header put back"),
    ],
)
@pytest.mark.usefixtures("only_labels")
def test_broken_folder_is_the_users_to_mend(
    folder: Path, tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    damage(folder / LABELS)
    with pytest.raises(UserError, match=rf"^{re.escape(str(folder / LABELS))}: {reason}.*params\.yaml"):
        fetch(tmp_path / "raw", folder)
    assert list((tmp_path / "raw").iterdir()) == []


def test_target_that_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("a file")
    with pytest.raises(UserError, match=f"{re.escape(str(tmp_path / 'raw'))}: cannot write there"):
        fetch(tmp_path / "raw")
