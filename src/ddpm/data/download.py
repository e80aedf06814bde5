"""Downloads of published data sets, with limits on response time, total time and file size."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

SILENCE = 10  # seconds to wait for an unresponsive server
LIMIT = 600  # seconds that a download may take
# Run in a separate process, because torchvision's downloads have no timeout and no size limit.
DOWNLOAD = """
import json, resource, socket, sys
import torchvision.datasets
sys.tracebacklimit = 0
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
socket.setdefaulttimeout(float(sys.argv[3]))
for options in json.loads(sys.argv[4]):
    getattr(torchvision.datasets, sys.argv[1])(".", download=True, **options)
"""


class UnusableError(Exception):
    """Raised if a source does not work. The message gives the reason."""


def from_torchvision(name: str, folder: Path, largest: int, options: Sequence[Mapping[str, str]] = ({},)) -> None:
    """Download a data set from torchvision's mirrors, checked by torchvision's MD5s.

    Args:
        name: A class of torchvision.datasets.
        folder: torchvision's `root`.
        largest: Maximum file size in bytes.
        options: Arguments of the class, one mapping per download.

    Raises:
        UnusableError: No mirror works.
    """
    _run(folder, [sys.executable, "-I", "-c", DOWNLOAD, name, str(largest), str(SILENCE), json.dumps(options)])


def from_debian(package: str, folder: Path) -> None:
    """Download a Debian package and unpack it in `folder`, without root and without running its scripts.

    Raises:
        UnusableError: There is no apt-get, or it cannot get the package.
    """
    options = {
        "Dir::State": folder / "state",
        "Dir::Cache": folder / "cache",
        "Acquire::Languages": "none",
        "Acquire::Retries": 0,
        "Acquire::http::Timeout": SILENCE,
        "Acquire::https::Timeout": SILENCE,
    }
    for name in ("state", "cache"):
        (folder / name).mkdir()
    apt_get = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in options.items())]
    # The update fails if any repository is broken, but another may have the package. Only the download counts.
    _run(folder, [*apt_get, "update"], [*apt_get, "download", package])
    _run(folder, ["dpkg-deb", "-x", *map(str, folder.glob(f"{package}_*.deb")), str(folder)])


def _run(folder: Path, *commands: list[str]) -> None:
    """Run commands in `folder`. If the last one fails, raise UnusableError with the first and last line of stderr."""
    complaints: list[str] = []
    for command in commands:
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=os.environ | {"TQDM_DISABLE": "1"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=LIMIT,
                check=False,
            )
        except FileNotFoundError:
            raise UnusableError(f"there is no {command[0]} on this machine") from None
        except subprocess.TimeoutExpired:
            raise UnusableError(f"timed out after {LIMIT} s") from None
        complaints += filter(None, map(str.strip, done.stderr.splitlines()))
    if done.returncode != 0:
        raise UnusableError("; ".join(dict.fromkeys([*complaints[:1], *complaints[-1:]])))
