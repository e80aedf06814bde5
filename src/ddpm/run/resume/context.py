"""Resuming of interrupted stages: their state is kept in `.resume/` until their outputs are written."""

import hashlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

import psutil
import torch
from filelock import FileLock, Timeout

from ddpm.errors import UserError
from ddpm.run.compute import Compute
from ddpm.run.files import md5
from ddpm.run.invocation import dvc_process, has_outlived_dvc
from ddpm.run.params import flatten
from ddpm.run.processes import of_first, size
from ddpm.run.resume.file import State, read_about
from ddpm.run.root import repo_root

logger = logging.getLogger(__name__)

SIGNALS = [each for each in signal.Signals if each.name in ("SIGHUP", "SIGTERM", "SIGINT")]  # Windows has no SIGHUP
LOCK_SECONDS = 10.0  # to wait for a run that is being stopped
SHARE = 0.01  # maximum fraction of a stage's time for saving its state
LOOK_SECONDS = 1.0  # between two checks whether dvc still runs


def determinants(
    values: Mapping[str, Any], deps: Iterable[str], code: Mapping[str, str], compute: Compute
) -> dict[str, str]:
    """Everything that determines the outputs of a stage, as strings. Runs with equal determinants are the same run.

    Args:
        values: The stage's params.
        deps: The files that it reads, which are compared by their MD5s.
        code: The digests of the code that it uses.
        compute: The device and its precision.
    """
    on_cuda = compute.device.type == "cuda"
    resolved = {
        "torch": torch.__version__,
        "resolved precision": compute.precision,
        "processor": torch.cuda.get_device_name() if on_cuda else torch.backends.cpu.get_cpu_capability(),
    }
    files = {dep: md5(Path(dep)) for dep in deps if Path(dep).is_file()}
    return {key: str(value) for key, value in flatten(values)} | files | dict(code) | resolved


class Resume:
    """Context manager that saves the state of a stage's run to disk while it works and writes its outputs.

    The state is deleted on exit, except after an exception. SIGTERM, SIGINT, SIGHUP and the end of the dvc that started
    this process stop the stage and keep its state. Training first completes its step. The exit status is then 128 + the
    number of the signal.
    """

    def __init__(self, name: str, about: dict[str, str], every: float, folder: Path | None = None) -> None:
        """Set the path of the state. Nothing is read or written yet.

        Args:
            name: The stage.
            about: Its `determinants`. Each run of the stage has its own file.
            every: Seconds between two checkpoints, or 0 to save after every step. A positive interval is extended if
                saving would take more than `SHARE` of the time.
            folder: Where the state is saved, or None for `.resume` in the main repository. An experiment's copy would
                be deleted.
        """
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        self.path = (folder or repo_root() / ".resume") / f"{name}-{digest[:16]}.safetensors"
        self._name, self._about, self._every = name, about, every
        self._lock = FileLock(self.path.with_suffix(".lock"))
        self._mid_step, self._signal, self._due = False, 0, 0.0
        self._over = threading.Event()

    def __enter__(self) -> "Resume":
        """Lock the run and handle signals.

        Raises:
            UserError: Another process is doing the same run, or the dvc that started this one has ended.
        """
        if has_outlived_dvc():
            raise UserError("stopped: the dvc that started it has ended")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            raise UserError(
                f"another process is already doing this run (it holds {self._lock.lock_file}); wait for it or end it"
            ) from None
        for half_written in self.path.parent.glob(f".{self.path.name}.*"):
            half_written.unlink()
        # Ignored signals stay ignored, such as SIGHUP under nohup.
        ours = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._handlers = {number: signal.signal(number, self._on_signal) for number in ours}
        self._watch = threading.Thread(target=self._end_with_dvc, args=(dvc_process(),), daemon=True)
        self._watch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self._over.set()
        self._watch.join()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if kind is None:
            self.path.unlink(missing_ok=True)
            Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()

    def start(self, state: State) -> None:
        """Load the saved state of this run into `state`, if any, and log whether the run resumes, or why not."""
        self._due = time.monotonic() + self._every
        self._load(state)
        if size() > 1:
            of_first(self.path.read_bytes() if state.step else b"")

    def _load(self, state: State) -> None:
        if self.path.exists():
            try:
                state.load(self.path)
                logger.info("%s: resumes after %s %d", self._name, state.unit, state.step)
            except UserError as damage:
                self.path.unlink()
                logger.warning("%s: starts from scratch: %s", self._name, damage)
        elif kept := self._kept_of_another_run():
            (about, step), path = kept
            changed = [key for key in sorted(self._about | about) if self._about.get(key) != about.get(key)]
            message = "%s: starts from scratch; changed since %s %d, which is kept in %s: %s"
            logger.info(message, self._name, state.unit, step, path, ", ".join(changed))

    def after_step(self, state: State, last: bool = False) -> None:
        """Save the state if a checkpoint is due, and stop the process if a signal has been received.

        Args:
            state: The state after a step.
            last: Whether this was the last step.
        """
        if self._signal or last or time.monotonic() >= self._due:
            began = time.monotonic()
            self.save(state)
            ended = time.monotonic()
            self._due = ended + max(self._every, (ended - began) / SHARE if self._every else 0)
        self._mid_step = not (state.breakable or last)
        if self._signal:
            self._stop(self._signal, f" after {state.unit} {state.step}")

    def save(self, state: State) -> None:
        """Save the state. If it cannot be written, log a warning and continue.

        A state with values that are not finite is not saved, and the previous one is kept.
        """
        if not state.is_finite():
            return
        try:
            state.save(self.path, self._about)
        except (OSError, UserError) as error:
            message = "%s: the state after %s %d cannot be saved: %s"
            logger.warning(message, self._name, state.unit, state.step, error)

    def _end_with_dvc(self, dvc: psutil.Process | None) -> None:
        """Stop this process by a signal when its dvc has ended."""
        while not self._over.wait(LOOK_SECONDS):
            if dvc_process() != dvc:
                os.kill(os.getpid(), next(iter(self._handlers), signal.SIGKILL))
                return

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Stop at once, or after the current training step unless this is the second signal."""
        if not self._mid_step or self._signal:
            self._stop(number)
        self._signal = number

    def _stop(self, number: int, where: str = "") -> NoReturn:
        logger.warning("%s: stopped (%s)%s", self._name, signal.strsignal(number), where)
        sys.exit(128 + number)

    def _kept_of_another_run(self) -> tuple[tuple[dict[str, str], int], Path] | None:
        """The newest readable state of this stage that no process uses: (about, step) and its file."""
        paths = self.path.parent.glob(f"{self._name}-*.safetensors")
        for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True):
            with suppress(Timeout, UserError), FileLock(path.with_suffix(".lock"), timeout=0):
                return read_about(path), path
        return None
