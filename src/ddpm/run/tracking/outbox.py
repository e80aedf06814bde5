"""Logs on disk until they are delivered to MLflow: a folder for each run, in `.mlflow-outbox/` of the main repository.

`journal.jsonl` holds a JSON object per line: first the run itself, then what is logged, last its status. `files/` holds
its artifacts, each complete before a line names it. Lines with `of_parent` belong to the run of the whole pipeline.
The stage holds `running.lock` while it runs. The folder is removed when all of it is delivered.
"""

import errno
import json
import os
import re
import shutil
import time
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from ddpm.run.root import repo_root

OUTBOX, SQLITE = ".mlflow-outbox", "sqlite:///"
JOURNAL, LOCK = "journal.jsonl", "running.lock"
RUN_ID = "{run_id}"  # in a tag: placeholder for the run's id in MLflow


def tracking_uri() -> str:
    """The store of the runs: MLFLOW_TRACKING_URI, else `mlflow.db` in the main repository.

    A relative SQLite path is relative to the main repository too, not to the copy that an experiment runs in.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"
    return f"{SQLITE}{repo_root() / uri.removeprefix(SQLITE)}" if uri.startswith(SQLITE) else uri


def without_secrets(text: str) -> str:
    """Remove the user:password of URLs from a text."""
    return re.sub(r"//[^/\s]*@", "//", text)


def reason(error: Exception) -> str:
    """An error in one line."""
    return without_secrets(str(error)).strip().partition("\n")[0][:400] or type(error).__name__


def now() -> int:
    """The current time in milliseconds, as in MLflow."""
    return time.time_ns() // 1_000_000


class Journal:
    """The journal of a run of this process."""

    def __init__(self, name: str, **head: Any) -> None:
        """Create the journal.

        Args:
            name: The run's name.
            head: Other JSON values for the first line.

        Raises:
            OSError: It cannot be written.
        """
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
        """Append a line of JSON values, all or nothing.

        Raises:
            OSError: The disk is full.
        """
        line = json.dumps({"time": now(), **record}).encode() + b"\n"
        if os.write(self._descriptor, line) < len(line):
            os.ftruncate(self._descriptor, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += len(line)

    def file(self, name: str) -> Path:
        """The path for the artifact `name`, which must be written before a line names it."""
        path = self.folder / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def close(self) -> None:
        """Mark the run as ended."""
        os.close(self._descriptor)
        self._lock.release()


def waiting() -> list[Path]:
    """The folders of all runs that are not completely delivered, oldest first."""
    return sorted(journal.parent for journal in (repo_root() / OUTBOX).glob(f"*/{JOURNAL}"))


def is_running(folder: Path) -> bool:
    """Whether the stage that writes this journal is still running."""
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True


def head(folder: Path) -> dict[str, Any]:
    """The first line of a journal.

    Raises:
        ValueError: It is damaged.
    """
    match read(folder, 0, 1):
        case [({"name": str(), "store": str()} as record, _)]:
            return record
    raise ValueError(f"{folder / JOURNAL}: its first line is damaged")


def read(folder: Path, position: int, limit: int) -> list[tuple[dict[str, Any], int]]:
    """Read lines of a journal.

    Args:
        folder: The run's folder.
        position: The byte to start at.
        limit: Maximum number of lines.

    Returns:
        Each complete line with the position after it. A damaged line is {}.
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
    """Remove a delivered run, its journal first, so that no sender delivers it again in part."""
    (folder / JOURNAL).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
