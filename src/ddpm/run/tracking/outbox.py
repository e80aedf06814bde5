"""What is logged, on disk until MLflow has it: a folder for each run, in `.mlflow-outbox/` of the main repository.

`journal.jsonl` is a JSON object a line: first the run itself, then what is logged, last how it ended. `files/` holds
its artifacts, each whole before a line names it. `sent.json` says how much has been delivered. The stage holds
`running.lock` as long as it lives. A folder goes when all of it has been delivered.
"""

import errno
import json
import os
import re
import shutil
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from ddpm.run.root import repo_root

OUTBOX, SQLITE = ".mlflow-outbox", "sqlite:///"
JOURNAL, SENT, LOCK = "journal.jsonl", "sent.json", "running.lock"


def tracking_uri() -> str:
    """Where the runs go: MLFLOW_TRACKING_URI, else `mlflow.db` in the main repository.

    A relative SQLite path is taken from the main repository too, not from the copy that an experiment runs in.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"
    return f"{SQLITE}{repo_root() / uri.removeprefix(SQLITE)}" if uri.startswith(SQLITE) else uri


def without_secrets(text: str) -> str:
    """The same without the user:password of an address."""
    return re.sub(r"//[^/\s]*@", "//", text)


def now() -> int:
    """Milliseconds, as MLflow counts them."""
    return time.time_ns() // 1_000_000


class Journal:
    """The journal of a run that goes on in this process."""

    def __init__(self, name: str, **head: Any) -> None:
        """Begin with a line that tells the run itself; OSError where it cannot be written."""
        unique = f"{time.time_ns()}-{name}-{uuid4().hex[:8]}"
        self.folder = repo_root() / OUTBOX / re.sub(r"[^\w-]", "_", unique)
        self.folder.mkdir(parents=True)
        try:
            self._lock = FileLock(self.folder / LOCK, timeout=0)
            self._lock.acquire()
            self._descriptor = os.open(self.folder / JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            self._size = 0
            self.write(name=name, store=without_secrets(tracking_uri()), **head)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def write(self, **record: Any) -> None:
        """Add a line, whole or not at all; OSError where the disk has no room for it."""
        line = json.dumps({"time": now(), **record}).encode() + b"\n"
        if os.write(self._descriptor, line) < len(line):
            os.ftruncate(self._descriptor, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += len(line)

    def file(self, name: str) -> Path:
        """Where to put the artifact `name` before a line names it."""
        path = self.folder / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def close(self) -> None:
        """Nothing more comes."""
        os.close(self._descriptor)
        self._lock.release()


@dataclass
class Sent:
    """How much of a journal is delivered to `store`: up to the byte `position`, as the run `run` below `parent`.

    time: of the last record that was delivered.
    """

    store: str
    position: int = 0
    run: str = ""
    parent: str = ""
    time: int = 0

    @classmethod
    def read(cls, folder: Path, store: str) -> "Sent":
        """Nothing yet where it says nothing of this store."""
        try:
            kept = cls(**json.loads((folder / SENT).read_text()))
        except (OSError, ValueError, TypeError):
            return cls(store)
        return kept if kept.store == store else cls(store)

    def write(self, folder: Path) -> None:
        """Replace the file as a whole."""
        temporary = folder / f".{SENT}"
        temporary.write_text(json.dumps(asdict(self)))
        temporary.replace(folder / SENT)


def waiting() -> list[Path]:
    """The folders of all runs that are not yet delivered, oldest first."""
    return sorted(journal.parent for journal in (repo_root() / OUTBOX).glob(f"*/{JOURNAL}"))


def is_running(folder: Path) -> bool:
    """Whether the stage that writes this journal is still alive."""
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True


def head(folder: Path) -> dict[str, Any]:
    """The first record of a journal; ValueError, naming the file, where it is damaged."""
    match read(folder, 0, 1):
        case [({"name": str(), "store": str()} as record, _)]:
            return record
    raise ValueError(f"{folder / JOURNAL}: its first line is damaged")


def read(folder: Path, position: int, limit: int) -> list[tuple[dict[str, Any], int]]:
    """At most `limit` records from the byte `position` on, each with the position after it.

    A line that is still being written is not there yet; a damaged one is an empty record.
    """
    records = []
    with (folder / JOURNAL).open("rb") as file:
        file.seek(position)
        for line in islice(file, limit):
            if not line.endswith(b"\n"):
                break
            position += len(line)
            try:
                record = json.loads(line)
            except ValueError:
                record = {}
            records.append((record if isinstance(record, dict) else {}, position))
    return records


def remove(folder: Path) -> None:
    """Forget a run that has been delivered; its journal goes first, so that nobody delivers half of what is left."""
    (folder / JOURNAL).unlink()
    shutil.rmtree(folder, ignore_errors=True)
