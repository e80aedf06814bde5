"""The clock counts only the time taken to produce items. Time is a list of numbers here."""

import time

from benchmarks.core.clock import Clock


class Time:
    """A clock that is advanced by hand."""

    now = 0.0

    def __call__(self):
        return self.now


def test_time_between_steps_is_not_counted():
    now = Time()

    def steps():
        for seconds in (5.0, 1.0, 2.0):
            now.now += seconds
            yield seconds

    clock = Clock(steps(), now)
    for _ in clock:
        now.now += 100.0  # an evaluation
    assert clock.laps == [5.0, 1.0, 2.0]
    assert clock.seconds == 8.0


def test_work_after_last_step_is_not_counted():
    now = Time()

    def steps():
        now.now += 1.0
        yield None
        now.now += 7.0

    clock = Clock(steps(), now)
    assert list(clock) == [None]
    assert clock.laps == [1.0]


def test_default_clock_measures_seconds():
    clock = Clock(time.sleep(0.02) for _ in range(3))
    list(clock)
    assert all(lap >= 0.02 for lap in clock.laps)  # sleep is never shorter than asked
