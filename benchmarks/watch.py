"""What watches a training step by step: a stopwatch, and a keeper of states that a killed run goes on from.

Both have the methods that `ddpm.training.loop.fit` calls on its `resume`; the peers' loop calls the same.
"""

import time
from pathlib import Path
from typing import Protocol

from ddpm.run.resume.file import read_about
from ddpm.run.resume.state import TrainingState

WARM_UP = 2  # steps that the stopwatch leaves out: memory is allocated and kernels are chosen


class Watch(Protocol):
    def start(self, state: TrainingState) -> None:
        """Before the first step; may put `state` further on."""

    def after_step(self, state: TrainingState, last: bool) -> None: ...

    def save(self, state: TrainingState) -> None:
        """Where the loss is not finite, just before the training gives up."""


class Enough(Exception):
    """The stopwatch has seen what it wanted."""


class Stopwatch:
    """Ends a training by `Enough` after `seconds` of steady state, two steps at least.

    set_up: seconds from its creation to the end of the first step. step_seconds: of a step after the first two.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._created, self._ends = seconds, time.perf_counter(), list[float]()
        self.set_up = self.step_seconds = 0.0
        self.parameters = 0

    def start(self, state: TrainingState) -> None:
        self.parameters = sum(parameter.numel() for parameter in state.modules["model"].parameters())

    def after_step(self, state: TrainingState, last: bool) -> None:
        self._ends.append(time.perf_counter())
        steps = state.step - WARM_UP
        if steps < 2:
            return
        lasted = self._ends[-1] - self._ends[WARM_UP - 1]
        if last or lasted >= self._seconds:
            self.set_up, self.step_seconds = self._ends[0] - self._created, lasted / steps
            raise Enough

    def save(self, state: TrainingState) -> None:
        pass


class Keeper:
    """Keeps the state after `n_steps` in `folder`, and every minute one on the way; goes on from the latest of them.

    States at the ends of shorter trainings stay, so that a longer one goes on from there. seconds: of training so far,
    those before an interruption included, if the state was kept since.
    """

    def __init__(self, folder: Path, n_steps: int, every: float = 60.0) -> None:
        self._folder, self._n_steps, self._every = folder, n_steps, every
        self.seconds = 0.0

    def start(self, state: TrainingState) -> None:
        usable = [path for path in self._folder.glob("[0-9]*.safetensors") if _step(path) <= self._n_steps]
        if usable:
            latest = max(usable, key=_step)
            about, _ = read_about(latest)
            state.load(latest)
            self.seconds = float(about["seconds"])
        self._look = time.monotonic()
        self._due = self._look + self._every

    def after_step(self, state: TrainingState, last: bool) -> None:
        now = time.monotonic()
        self.seconds += now - self._look
        if last or now >= self._due:
            self._write(state, "" if last else ".part")
            now = time.monotonic()
            self._due = now + self._every
        self._look = now  # what writing takes is not training

    def save(self, state: TrainingState) -> None:
        pass

    def _write(self, state: TrainingState, suffix: str) -> None:
        path = self._folder / f"{state.step}{suffix}.safetensors"
        state.save(path, {"seconds": self.seconds})
        for older in self._folder.glob("*.part.safetensors"):
            if older != path:
                older.unlink()


def _step(path: Path) -> int:
    return int(path.name.split(".")[0])
