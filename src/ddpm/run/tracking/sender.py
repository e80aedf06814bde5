"""A stage's connection to its sender, the process that delivers journals to MLflow.

All stages of one `dvc` share a sender, because importing mlflow takes seconds. It listens on a socket. A stage
connects, sends the path of its journal, and keeps the connection open while it runs.
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

LONGEST = 60  # maximum length of the path of the temporary folder, in bytes


class Sender:
    """The sender of a journal. It detects by itself when this process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Connect to the sender of this dvc, or of this process if there is no dvc. Start the sender if needed.

        Args:
            folder: The journal's folder.

        Raises:
            OSError: It cannot be started.
        """
        owner = dvc_process() or psutil.Process()
        address = _address(owner)
        self._line = socket(AF_UNIX)
        try:
            self._line.connect(str(address))
        except OSError:  # not started yet, or it gave up
            _start(address, owner)
            self._line.connect(str(address))
        self._line.sendall(f"{folder}\n".encode())

    def finish(self) -> tuple[bool, str]:
        """Wait until the journal is delivered, or the sender gives up.

        Returns:
            Whether all of it was delivered, and the sender's message.
        """
        answer = ""
        with self._line, suppress(OSError):  # a killed sender may leave the connection broken
            self._line.shutdown(SHUT_WR)
            answer = self._line.makefile().read()
        delivered, said = json.loads(answer) if answer else (False, "its sender has ended")
        return delivered, said


def _address(owner: psutil.Process) -> Path:
    """Where the sender of a process listens: a short path, as sockets allow only 103 bytes on some systems."""
    place = gettempdir() if len(gettempdir()) <= LONGEST else "/tmp"
    folder = Path(place) / f"ddpm-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    about = json.dumps([tracking_uri(), str(repo_root()), owner.pid, owner.create_time()])
    return folder / hashlib.sha256(about.encode()).hexdigest()[:16]


def _start(address: Path, owner: psutil.Process) -> None:
    """Start a sender with a socket that already listens, so that stages need not wait until it is up."""
    address.unlink(missing_ok=True)
    with socket(AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()
        listener.set_inheritable(True)
        command = sys.executable, "-m", "ddpm.run.tracking.delivery", str(listener.fileno()), str(owner.pid)
        silent = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in range(3)]
        # Not `subprocess`, which waits for its children. Ctrl-C is meant for the stage only.
        os.posix_spawn(sys.executable, command, os.environ, file_actions=silent, setpgroup=0)
