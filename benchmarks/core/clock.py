"""The time that training takes, excluding what happens between steps."""

import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Clock(Iterator[Item], Generic[Item]):
    """Times the work of an iterator. Time spent by the consumer between items, such as evaluation, is excluded.

    Args:
        items: An iterator that does its work in `next`, such as `training_steps`.
        now: Returns the time in seconds.

    Attributes:
        laps: Seconds taken by each item so far.
    """

    def __init__(self, items: Iterator[Item], now: Callable[[], float] = time.perf_counter) -> None:
        self._items, self._now = items, now
        self.laps: list[float] = []

    def __next__(self) -> Item:
        began = self._now()
        item = next(self._items)
        self.laps.append(self._now() - began)
        return item

    @property
    def seconds(self) -> float:
        """Seconds taken by all items so far."""
        return sum(self.laps)
