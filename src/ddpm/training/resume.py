"""A training that was killed goes on where it was: its state is kept in `.resume/` until its outputs are written."""

import hashlib
import json
import logging
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn

import torch
from filelock import FileLock, Timeout
from ruamel.yaml import YAML

from ddpm.compute import Compute
from ddpm.config import Params
from ddpm.errors import UserError
from ddpm.files import md5
from ddpm.outbox import repo_root
from ddpm.tracking import dvc_process, flatten
from ddpm.training.state import TrainingState, read_about

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LOCK_SECONDS = 10.0  # how long to wait for a run that has just been told to stop
LOOK_SECONDS = 1.0  # between two looks at whether dvc is still there


def determinants(stage: str, params: Params, compute: Compute) -> dict[str, str]:
    """Everything that decides what a stage's training gives, in words: two runs that agree in it are the same run.

    params: the stage's own. Files count by their MD5: the `deps` of the stage in dvc.yaml, data and code.
    """
    deps = YAML(typ="safe", pure=True).load(Path("dvc.yaml"))["stages"][stage]["deps"]
    values = {key: str(value) for key, value in flatten(params.model_dump()) if not key.endswith(".checkpoint_seconds")}
    on_cuda = compute.device.type == "cuda"
    resolved = {
        "torch": torch.__version__,
        "resolved precision": compute.precision,
        "processor": torch.cuda.get_device_name() if on_cuda else torch.backends.cpu.get_cpu_capability(),
    }
    return values | {dep: md5(Path(dep)) for dep in deps} | resolved


class Resume:
    """Keeps the state of one training run on disk, as a context around the training and the writing of its outputs.

    The state is removed at the end of the context, and stays if that is left by an exception. SIGTERM, SIGINT, SIGHUP
    and the end of the dvc that started this process end a training after its step, with the state written; the exit
    status is 128 + the signal's number.
    """

    def __init__(self, name: str, about: dict[str, str], every: float, folder: Path | None = None) -> None:
        """name: the stage's. about: its `determinants`. every: seconds between two writings, 0 for each step.

        folder: `.resume` in the main repository if not given, for an experiment's own copy of it is deleted.
        """
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        self.path = (folder or repo_root() / ".resume") / f"{name}-{digest[:16]}.safetensors"
        self._name, self._about, self._every = name, about, every
        self._lock = FileLock(self.path.with_suffix(".lock"))
        self._training, self._signal, self._look, self._due = False, 0, 0.0, 0.0

    def __enter__(self) -> "Resume":
        """Raises UserError where another process is at the same run."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            raise UserError(
                f"another process is at this very training (it holds {self._lock.lock_file}); wait for it or end it"
            ) from None
        for half_written in self.path.parent.glob(f".{self.path.name}.*"):
            half_written.unlink()
        self._dvc = dvc_process()
        # What is ignored stays ignored, such as SIGHUP under nohup.
        ours = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._handlers = {number: signal.signal(number, self._on_signal) for number in ours}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if kind is None:
            self.path.unlink(missing_ok=True)
            Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()

    def start(self, state: TrainingState) -> None:
        """Give `state` back what was kept of this run, and say so; else say why the run starts afresh."""
        self._training, self._due = True, time.monotonic() + self._every
        if self.path.exists():
            try:
                state.load(self.path)
                logger.info("%s: resumes after step %d", self._name, state.step)
            except UserError as damage:
                self.path.unlink()
                logger.warning("%s: starts afresh: %s", self._name, damage)
        elif kept := self._kept_of_another_run():
            (about, step), path = kept
            changed = [key for key in sorted(self._about | about) if self._about.get(key) != about.get(key)]
            message = "%s: starts afresh; changed since step %d, which is kept in %s: %s"
            logger.info(message, self._name, step, path, ", ".join(changed))

    def after_step(self, state: TrainingState, last: bool) -> None:
        """Write the state where that is due, and stop the process where that was asked for."""
        now = time.monotonic()
        if now >= self._look:
            self._look = now + LOOK_SECONDS
            if dvc_process() != self._dvc:  # it was killed, and nobody would see what this process still does
                self._signal = signal.SIGHUP
        if self._signal or last or now >= self._due:
            self.save(state)
            self._due = time.monotonic() + self._every
        self._training = not last
        if self._signal:
            self._stop(self._signal, f" after step {state.step}")

    def save(self, state: TrainingState) -> None:
        """Write the state; where the disk refuses it, say so and let the training go on.

        A state that is not finite leads nowhere: the one before it is kept.
        """
        if not state.is_finite():
            return
        try:
            state.save(self.path, self._about)
        except (OSError, UserError) as error:
            logger.warning("%s: the state after step %d cannot be kept: %s", self._name, state.step, error)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        """In a training, wait for the end of the step, unless asked twice; elsewhere stop at once."""
        if not self._training or self._signal:
            self._stop(number)
        self._signal = number

    def _stop(self, number: int, where: str = "") -> NoReturn:
        logger.warning("%s: stopped (%s)%s", self._name, signal.strsignal(number), where)
        sys.exit(128 + number)

    def _kept_of_another_run(self) -> tuple[tuple[dict[str, str], int], Path] | None:
        """The newest state of this stage that no process is at and that can be read: (about, step), file."""
        paths = self.path.parent.glob(f"{self._name}-*.safetensors")
        for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True):
            with suppress(Timeout, UserError), FileLock(path.with_suffix(".lock"), timeout=0):
                return read_about(path), path
        return None
