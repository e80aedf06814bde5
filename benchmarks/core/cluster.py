"""A cost model of training and sampling with several processes."""

from collections.abc import Callable
from math import ceil, log2
from typing import NamedTuple


class Links(NamedTuple):
    """A link between processes: seconds per message, and bytes per second."""

    latency: float
    bandwidth: float


class Work(NamedTuple):
    """A step: number of micro-batches, seconds for each, seconds of per-process work, bytes of gradients."""

    micro_batches: int
    each: float
    rest: float
    gradient: float


Exchange = Callable[[int, float, Links], float]


def all_gather(n: int, gradient: float, links: Links) -> float:
    """Seconds of a ring all-gather among n processes, as implemented: n - 1 messages."""
    return (n - 1) * (links.latency + gradient / links.bandwidth)


def halving_doubling(n: int, gradient: float, links: Links) -> float:
    """Seconds of recursive halving and doubling (Thakur et al. 2005), with the same sums. It is not implemented."""
    return 2 * log2(n) * links.latency + 2 * (n - 1) / n * gradient / links.bandwidth


def step_seconds(n: int, work: Work, links: Links, exchange: Exchange = all_gather) -> float:
    """Seconds of a training step with n processes, of which at most one per micro-batch is used.

    This is a lower bound if n is not a power of 2 that divides the number of micro-batches, as some processes then
    exchange several sums.
    """
    n = min(n, work.micro_batches)
    return ceil(work.micro_batches / n) * work.each + work.rest + exchange(n, work.gradient, links)


def drawing_seconds(n: int, batches: int, each: float, start: float) -> float:
    """Seconds to sample batches, each by one process. `start` is the start-up time of further processes."""
    return ceil(batches / n) * each + (start if n > 1 else 0)
