"""When a state is written, and when a signal has to wait for it."""

import os
import signal
from itertools import pairwise

import pytest

from ddpm.run.resume import context
from ddpm.run.resume.context import Resume


class Slow:
    """A training state. Writing it advances an otherwise stopped clock by `seconds`."""

    unit, breakable = "step", False

    def __init__(self, seconds=0.0):
        self.seconds, self.step, self.now, self.written = seconds, 0, 0.0, []

    def save(self, *_):
        self.written.append(self.now)
        self.now += self.seconds

    def load(self, *_):
        pytest.fail("there is nothing to go on from")

    def is_finite(self):
        return True


@pytest.mark.parametrize(("seconds", "between"), [(0.3, 60), (0.6, 60), (3, 300)])
def test_saving_state_takes_at_most_1_percent_of_time(tmp_path, monkeypatch, seconds, between):
    state = Slow(seconds)
    with Resume("stage", {}, 60.0, tmp_path) as resume:
        monkeypatch.setattr(context.time, "monotonic", lambda: state.now)
        resume.start(state)
        while state.now < 3600:
            state.now += 0.5
            resume.after_step(state)
        monkeypatch.undo()
    assert 60 <= state.written[0] <= 60.5
    assert len(state.written) >= 3600 // (between + seconds + 0.51)
    assert seconds * len(state.written) <= 0.01 * state.now
    gaps = [later - earlier for earlier, later in pairwise(state.written)]
    assert all(between - 0.01 <= gap - seconds <= between + 0.51 for gap in gaps)  # a step more at most, and rounding


@pytest.mark.parametrize("steps_since_the_start", [0, 1])
def test_signal_after_last_step_stops_immediately(tmp_path, steps_since_the_start):
    """Also if that step was made before the interruption, so that no other follows."""

    def stage(resume, state):
        resume.start(state)
        if steps_since_the_start:
            resume.after_step(state, last=True)
        os.kill(os.getpid(), signal.SIGTERM)
        state.step = 1

    assert stopped(stage, tmp_path).step == 0


def test_signal_during_training_step_waits_for_its_end(tmp_path):
    def stage(resume, state):
        resume.start(state)
        resume.after_step(state)
        os.kill(os.getpid(), signal.SIGTERM)
        state.step = 2
        resume.after_step(state)
        state.step = 3

    state = stopped(stage, tmp_path)
    assert state.step == 2
    assert len(state.written) == 1


def stopped(stage, folder):
    """The state of a stage that has ended by SIGTERM."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the inherited handler
    state = Slow()
    try:
        with pytest.raises(SystemExit) as ending, Resume("stage", {}, 60.0, folder) as resume:
            stage(resume, state)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ending.value.code == 128 + signal.SIGTERM
    return state
