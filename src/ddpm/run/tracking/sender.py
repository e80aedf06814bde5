"""A stage's line to its sender, the process that delivers journals to MLflow.

All stages of one `dvc` share a sender, because importing mlflow takes seconds. It listens on a socket. A stage that
connects names its journal, and keeps the connection open as long as it works.
"""

import hashlib
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from socket import AF_UNIX, SHUT_WR, socket
from tempfile import gettempdir

import psutil

from ddpm.run.invocation import dvc_process
from ddpm.run.root import repo_root
from ddpm.run.tracking.outbox import tracking_uri

LONGEST = 60  # bytes of a path to temporary files


class Sender:
    """The sender of a journal. It notices by itself when this process ends, in whatever way."""

    def __init__(self, folder: Path) -> None:
        """Find the sender of this dvc, or of this process if there is no dvc, or start it.

        Args:
            folder: The journal's.

        Raises:
            OSError: It cannot be started.
        """
        owner = dvc_process() or psutil.Process()
        address = _address(owner)
        self._line = socket(AF_UNIX)
        try:
            self._line.connect(str(address))
        except OSError:  # none has been started, or it gave up
            _start(address, owner)
            self._line.connect(str(address))
        self._line.sendall(f"{folder}\n".encode())

    def finish(self) -> tuple[bool, str]:
        """Wait until the journal is delivered, or the sender gives it up.

        Returns:
            Whether all of it has been delivered, and what the sender has to say.
        """
        answer = ""
        with self._line, suppress(OSError):  # a sender that was killed may leave the line broken, not only empty
            self._line.shutdown(SHUT_WR)
            answer = self._line.makefile().read()
        delivered, said = json.loads(answer) if answer else (False, "its sender has ended")
        return delivered, said


def _address(owner: psutil.Process) -> Path:
    """Where the sender of a process listens: a short path, for a socket's has at most 103 bytes on some systems."""
    place = gettempdir() if len(gettempdir()) <= LONGEST else "/tmp"
    folder = Path(place) / f"ddpm-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    about = json.dumps([tracking_uri(), str(repo_root()), owner.pid, owner.create_time()])
    return folder / hashlib.sha256(about.encode()).hexdigest()[:16]


def _start(address: Path, owner: psutil.Process) -> None:
    """Start a sender. It is given a socket that listens already, so that nobody has to wait until it is up."""
    address.unlink(missing_ok=True)
    with socket(AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()
        listener.set_inheritable(True)
        command = sys.executable, "-m", "ddpm.run.tracking.delivery", str(listener.fileno()), str(owner.pid)
        silent = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in range(3)]
        # Not `subprocess`, which wants to see the end of what it starts. Ctrl-C is meant for the stage alone.
        os.posix_spawn(sys.executable, command, os.environ, file_actions=silent, setpgroup=0)
