"""Intervals: their coverage, their width, and that they depend on the seed only."""

from functools import partial
from statistics import fmean, stdev

import numpy as np
import pytest
import torch
from evaluation.points import normal

from ddpm.evaluation.estimate import estimate, share
from ddpm.evaluation.metrics.kid_classifier import kid


def test_interval_has_nominal_coverage_and_width():
    # The mean of 80 normal numbers, 200 times: 190 +- 3 intervals cover 0. Outside 178 to 198 has probability 1e-3.
    sets = [estimate(lambda x: x.mean().item(), normal(80, 1, i), rounds=50, seed=i) for i in range(200)]
    covered = sum(e.low < 0 < e.high for e in sets)
    assert 178 <= covered <= 198
    # The standard error of a width is 13 % (80 numbers, 50 halves), so that of the mean of 200 is 1 %.
    widths = torch.tensor([e.high - e.low for e in sets])
    assert widths.mean().item() == pytest.approx(2 * 1.96 / 80**0.5, rel=0.05)


def test_interval_is_1_96_sample_deviations_of_half_samples():
    def score(some):
        found.append(fmean(some.tolist()))
        return found[-1]

    found, points = [], normal(9, 1, 0)[:, 0]
    interval = estimate(score, points, rounds=3, seed=5)
    value, *halves = found
    assert (interval.value, len(halves)) == (fmean(points.tolist()), 3)
    assert interval.high - value == pytest.approx(1.96 * stdev(halves))
    assert value - interval.low == pytest.approx(1.96 * stdev(halves))


@pytest.mark.parametrize(("hits", "n"), [(0, 24), (1, 258), (129, 258), (24, 24)])
def test_share_interval_solves_the_score_equation(hits, n):
    # Wilson's ends are the p from which hits / n lies 1.96 standard errors away: (hits / n - p)^2 = z^2 p (1 - p) / n.
    found, z2, value = share(torch.arange(n) < hits), 1.959964**2, hits / n
    ends = np.roots([1 + z2 / n, -(2 * value + z2 / n), value**2]).real
    assert found.value == value
    assert (found.low, found.high) == pytest.approx(sorted(ends), abs=1e-6)
    assert found.high - found.low > 0.01


def test_estimate_is_deterministic_for_a_seed():
    x, y = normal(50, 4, 0), normal(30, 4, 1)
    state = torch.get_rng_state()
    first, again, other = (estimate(partial(kid, x, seed=s), y, rounds=3, seed=s) for s in (1, 1, 2))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), state)
