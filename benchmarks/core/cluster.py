"""The time of a training step, and of drawing samples, by how many processes share the work."""

from collections.abc import Callable
from math import ceil, log2
from typing import NamedTuple


class Links(NamedTuple):
    """What connects processes: seconds that a message takes however short it is, and bytes a second."""

    latency: float
    bandwidth: float


class Work(NamedTuple):
    """A step: its micro-batches, seconds of each, seconds of what each process does for itself, bytes of gradients."""

    micro_batches: int
    each: float
    rest: float
    gradient: float


Exchange = Callable[[int, float, Links], float]


def all_gather(n: int, gradient: float, links: Links) -> float:
    """Seconds until n processes have the gradients of all: n - 1 messages around a ring, as the code does it."""
    return (n - 1) * (links.latency + gradient / links.bandwidth)


def halving_doubling(n: int, gradient: float, links: Links) -> float:
    """The same sums in the same pairs, each process adding a part of them (Thakur et al. 2005); not written yet."""
    return 2 * log2(n) * links.latency + 2 * (n - 1) / n * gradient / links.bandwidth


def step_seconds(n: int, work: Work, links: Links, exchange: Exchange = all_gather) -> float:
    """Seconds of a training step of n processes; more than there are micro-batches are of no use."""
    n = min(n, work.micro_batches)
    return ceil(work.micro_batches / n) * work.each + work.rest + exchange(n, work.gradient, links)


def drawing_seconds(n: int, batches: int, each: float, start: float) -> float:
    """Seconds to draw batches of samples, each by one process; `start` passes before the others are there."""
    return ceil(batches / n) * each + (start if n > 1 else 0)
