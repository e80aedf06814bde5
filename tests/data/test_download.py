"""Downloads: a failing mirror raises an error with the reason, and Debian's packages need no root."""

import shutil
import time
from pathlib import Path

import pytest
from mirror import mirror

from ddpm.data import download
from ddpm.data.download import UnusableError, from_debian, from_torchvision

FILE = "train-images-idx3-ubyte.gz"  # torchvision's first request
LARGEST = 1_000_000
STARTS = 300  # seconds allowed for Python and torchvision to start on a busy machine


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in PATH."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("missing", r"Error downloading train-images.*HTTP Error 404"),
        ("altered", "File not found or corrupted"),
        ("silent", "timed out"),
        ("endless", "File too large"),
    ],
)
def test_bad_mirror_raises_unusable_error_with_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str, reason: str
) -> None:
    monkeypatch.setattr(download, "SILENCE", 0.5)
    start = time.monotonic()
    with mirror({FILE: bytes(range(250)) * 20}, behaviour) as server, pytest.raises(UnusableError, match=reason):
        from_torchvision("FashionMNIST", tmp_path, LARGEST)
    assert server.asked[0].endswith(FILE)
    assert time.monotonic() - start < STARTS  # the silent server waits for 600 s
    if behaviour == "endless":
        assert server.sent >= LARGEST
        assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= LARGEST


def test_download_times_out_and_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if it is never silent: a mirror may send a byte now and then."""
    monkeypatch.setattr(download, "LIMIT", 1)
    script = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)"
    monkeypatch.setattr(download, "DOWNLOAD", script)
    start = time.monotonic()
    with pytest.raises(UnusableError, match="timed out after 1 s"):
        from_torchvision("FashionMNIST", tmp_path, LARGEST)
    assert time.monotonic() - start < 60
    pid = tmp_path / "pid"
    assert not pid.exists() or not Path(f"/proc/{pid.read_text()}").exists()  # it may not have begun


def test_from_debian_requires_apt_get(tmp_path: Path, programs: Path) -> None:
    assert not list(programs.iterdir())
    with pytest.raises(UnusableError, match="there is no apt-get on this machine"):
        from_debian("dataset-fashion-mnist", tmp_path)


def test_apt_error_joins_first_and_last_messages(tmp_path: Path, programs: Path) -> None:
    says = "*update) echo 'W: no such host' >&2 ;; *) echo 'E: Unable to locate' >&2; exit 100"
    (programs / "apt-get").write_text(f'#!/bin/sh\ncase "$*" in {says} ;; esac\n')
    (programs / "apt-get").chmod(0o755)
    with pytest.raises(UnusableError, match=r"^W: no such host; E: Unable to locate$"):
        from_debian("dataset-fashion-mnist", tmp_path)


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="there is no apt-get on this machine")
def test_debian_package_is_unpacked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from_debian("dataset-fashion-mnist", tmp_path)
    assert (tmp_path / "usr/share/datasets/fashion-mnist" / FILE).stat().st_size > 26_000_000
    assert capfd.readouterr() == ("", "")
