"""The time that training takes, without what is done between its steps."""

import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Clock(Iterator[Item], Generic[Item]):
    """Times the work of an iterator. What its reader does between two items, such as an evaluation, does not count.

    Args:
        items: An iterator that works when it is asked for its next item, such as `training_steps`.
        now: The clock that is read, in seconds.

    Attributes:
        laps: Seconds behind each item so far.
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
        """Seconds behind all items so far."""
        return sum(self.laps)
