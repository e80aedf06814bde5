"""The cost model for many processes: against manual calculation, a message-by-message count, and its limits."""

from math import log2

import pytest

from benchmarks.core.cluster import Links, Work, all_gather, drawing_seconds, halving_doubling, step_seconds
from ddpm.training.gradients import nodes, share

LINKS = Links(latency=0.001, bandwidth=1e9)
WORK = Work(micro_batches=10, each=0.1, rest=0.05, gradient=4e6)


def test_step_seconds_match_manual_calculation():
    # 3 of 10 micro-batches for the busiest of 4, and 3 messages of 1 + 4 ms
    assert step_seconds(4, WORK, LINKS) == pytest.approx(0.3 + 0.05 + 0.015)
    assert step_seconds(4, WORK, LINKS, halving_doubling) == pytest.approx(0.3 + 0.05 + 0.004 + 0.006)


@pytest.mark.parametrize("exchange", [all_gather, halving_doubling])
def test_step_seconds_for_one_and_for_excess_processes(exchange):
    assert step_seconds(1, WORK, LINKS, exchange) == pytest.approx(10 * 0.1 + 0.05)
    assert step_seconds(11, WORK, LINKS, exchange) == step_seconds(10, WORK, LINKS, exchange)


@pytest.mark.parametrize(("parts", "n", "exchanges"), [(8, 4, 1), (12, 4, 1), (512, 64, 1), (8, 3, 2), (10, 4, 2)])
def test_step_has_one_exchange_if_a_power_of_two_divides_the_parts(parts, n, exchanges):
    sums = [nodes((0, parts), range(parts)[share(parts, which, n)]) for which in range(n)]
    assert max(map(len, sums)) == exchanges


@pytest.mark.parametrize("n", [2, 8, 512])
def test_halving_doubling_equals_sum_of_messages(n):
    """Half of the gradient, a quarter and so on until a process has 1/n, and then the same way back."""
    parts = [WORK.gradient / 2**k for k in range(1, int(log2(n)) + 1)]
    messages = sum(LINKS.latency + part / LINKS.bandwidth for part in parts)
    assert halving_doubling(n, WORK.gradient, LINKS) == pytest.approx(2 * messages)


def test_drawing_seconds_split_samples_and_add_start_time():
    assert drawing_seconds(1, 10, 2.0, 5.0) == 20.0
    assert drawing_seconds(4, 10, 2.0, 5.0) == 6.0 + 5.0
    assert drawing_seconds(99, 10, 2.0, 5.0) == 2.0 + 5.0
