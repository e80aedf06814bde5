"""Share experiments among clones through a git remote: each clone takes the next free one, and all receive its row.

A clone that runs an experiment holds a lease on it (Gray and Cheriton 1989): the reference refs/leases/NAME on the
remote. Git updates a reference only if it still has the value the pusher last saw, so only one of two clones gets it.
The lease is renewed while the experiment runs. A lease that has not changed for a while belongs to a dead clone and may
be taken over. The row replaces the lease in one atomic push, provided the lease is still the clone's own, so every
experiment counts exactly once.
"""

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Event, Lock, Thread
from typing import Any
from uuid import uuid4

from ddpm.errors import UserError
from ddpm.run.tracking.outbox import without_secrets

LEASES, ROWS = "refs/leases", "refs/rows"
PAUSES = 0.0, 0.1, 0.5, 2.0, 5.0  # seconds before each attempt to push, as concurrent pushes can collide
GIT_SECONDS = 120.0  # timeout for an answer from the remote
Row = Mapping[str, Any]


class Alone:
    """A clone that does not share: it may run every experiment."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}

    def rows(self, names: Iterable[str]) -> Iterator[tuple[str, Row]]:
        """The experiments among `names` that have a row, and the row."""
        return ((name, self._rows[name]) for name in names if name in self._rows)

    @contextmanager
    def lease(self, name: str) -> Iterator[bool]:  # noqa: ARG002
        """Lease an experiment until the block ends.

        Yields:
            Whether the lease was granted. False if the experiment has a row, or another clone is running it.
        """
        yield True

    def add(self, name: str, row: Row) -> None:
        """Add the row of an experiment leased by this clone."""
        self._rows[name] = row

    def pause(self) -> None:
        """Wait until other clones may have made progress."""


class Sharing(Alone):
    """A clone that shares with all others that use the same git remote.

    Args:
        remote: The remote's name or URL.
        renew: Seconds between renewals of a lease.
        dead: Seconds, by this clone's clock, after which a lease that was not renewed may be taken over.

    Raises:
        UserError: The remote does not exist or refuses access.
    """

    def __init__(self, remote: str, renew: float = 60.0, dead: float = 600.0) -> None:
        self._remote, self._renew, self._dead = remote, renew, dead
        self._seen: dict[str, float] = {}  # leases of others, and when they were first seen
        self._mine: dict[str, str] = {}  # this clone's leases, by experiment
        self._changing = Lock()  # guards the leases
        self._refs()

    def rows(self, names: Iterable[str]) -> Iterator[tuple[str, Row]]:
        there = self._refs()
        rows = {name: there[f"{ROWS}/{name}"] for name in names if f"{ROWS}/{name}" in there}
        if rows:
            self._git("fetch", "--quiet", "--no-write-fetch-head", self._remote, *(f"{ROWS}/{name}" for name in rows))
        for name, row in rows.items():
            yield name, json.loads(self._git("cat-file", "blob", row))

    @contextmanager
    def lease(self, name: str) -> Iterator[bool]:
        mine = self._take(name)
        if not mine:
            yield False
            return
        ended = Event()
        renewing = Thread(target=self._keep, args=(name, ended), daemon=True)
        renewing.start()
        try:
            yield True
        finally:
            ended.set()
            renewing.join()
            if name in self._mine:  # not replaced by a row
                self._push(name, self._mine.pop(name), "")

    def add(self, name: str, row: Row) -> None:
        """Push the row, unless another clone has taken over the experiment."""
        with self._changing:
            self._push(name, self._mine[name], "", row)
            del self._mine[name]

    def pause(self) -> None:
        time.sleep(self._renew)

    def _take(self, name: str) -> bool:
        there = self._refs()
        if f"{ROWS}/{name}" in there:
            return False
        held = there.get(f"{LEASES}/{name}", "")
        if held and time.monotonic() - self._seen.setdefault(held, time.monotonic()) < self._dead:
            return False
        self._mine[name] = self._new()
        return self._push(name, held, self._mine[name])

    def _keep(self, name: str, ended: Event) -> None:
        while not ended.wait(self._renew):
            with self._changing, suppress(UserError):  # it will be tried again
                if name in self._mine and self._push(name, self._mine[name], new := self._new()):
                    self._mine[name] = new

    def _new(self) -> str:
        """A new, unique lease."""
        return self._blob({"host": platform.node(), "time": time.time(), "key": uuid4().hex})

    def _push(self, name: str, old: str, new: str, row: Row | None = None) -> bool:
        """Change the lease of an experiment from `old` to `new` ("" for none) and add a row, all or nothing.

        Returns:
            Whether it was done. False if another clone was faster.

        Raises:
            UserError: The remote refused repeatedly, although nothing on it has changed.
        """
        changes = {f"{LEASES}/{name}": (old, new)}
        if row is not None:
            changes[f"{ROWS}/{name}"] = ("", self._blob(row))
        only_if = [f"--force-with-lease={ref}:{before}" for ref, (before, _) in changes.items()]
        specs = [f"{after}:{ref}" for ref, (_, after) in changes.items()]
        for pause in PAUSES:
            time.sleep(pause)
            done = self._run("push", "--quiet", "--no-verify", "--atomic", *only_if, self._remote, *specs)
            there = self._refs() if done.returncode else {}
            if not done.returncode or all(there.get(ref, "") == after for ref, (_, after) in changes.items()):
                return True
            if any(there.get(ref, "") != before for ref, (before, _) in changes.items()):
                return False
        raise self._error(done.stderr)

    def _refs(self) -> dict[str, str]:
        """The leases and rows on the remote: the object of each reference."""
        lines = self._git("ls-remote", self._remote, f"{LEASES}/*", f"{ROWS}/*").splitlines()
        return {ref: named for named, ref in (line.split("\t") for line in lines)}

    def _blob(self, value: Row) -> str:
        return self._git("hash-object", "-w", "--stdin", given=json.dumps(value)).strip()

    def _git(self, *words: str, given: str = "") -> str:
        done = self._run(*words, given=given)
        if done.returncode:
            raise self._error(done.stderr)
        return done.stdout

    def _run(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"GIT_TERMINAL_PROMPT": "0"}  # a password prompt would never be seen
        try:
            return subprocess.run(
                ["git", *words], capture_output=True, text=True, input=given, env=environment, timeout=GIT_SECONDS
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(words, 1, "", f"git has not answered for {GIT_SECONDS:g} seconds")

    def _error(self, said: str) -> UserError:
        line = next((line for line in said.splitlines() if line.strip() and not line.startswith("To ")), "git fails")
        shown = without_secrets(f"--remote is {self._remote!r}: {line.strip()}")
        return UserError(f"{shown}; give a remote from `git remote -v` that you can push to")
