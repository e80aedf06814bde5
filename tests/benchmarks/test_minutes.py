"""The benchmark's own arithmetic: times to a score, ratios, table and figure."""

from math import sqrt

import pytest

from benchmarks import minutes

METRICS = ("fid", "class_distance", "precision", "recall")


def row(contender, after, score, seed=0):
    values = dict(zip(METRICS, (score, 0.25, 0.9, 0.6), strict=True))
    floors = {f"{metric}_classifier_floor": "0.05" for metric in METRICS}
    scores = {f"{metric}_classifier": str(value) for metric, value in values.items()}
    return {"contender": contender, "minutes": f"{after:g}", "seed": str(seed), **scores, **floors}


# Ours falls as 8 / minutes, a straight line on log scales.
ROWS = [row("diffusers", t, 40 / t) for t in (20, 10)] + [row("ours", t, 8 / t) for t in (1, 2, 10)]


def test_curves_are_by_minutes_with_ours_first():
    assert minutes.curves(ROWS) == {"ours": {1: [8], 2: [4], 10: [0.8]}, "diffusers": {10: [4], 20: [2]}}
    assert list(minutes.curves(ROWS)) == ["ours", "diffusers"]


def test_time_to_a_score_lies_on_the_line_of_the_logs():
    ours = minutes.curves(ROWS)["ours"]
    assert minutes.time_to(ours, 8 / sqrt(2)) == (pytest.approx(sqrt(2)), False)
    assert minutes.time_to(ours, 2.0) == (pytest.approx(4), False)
    assert minutes.time_to(ours, 8.0) == (1, True)
    assert minutes.time_to(ours, 100.0) == (1, True)  # it may have been there earlier
    assert minutes.time_to(ours, 0.1) is None


def test_the_ratios():
    found = minutes.curves(ROWS)
    assert minutes.best_peer(found, 20) == ("diffusers", 2.0)
    assert minutes.best_peer(found, 5) is None
    faster, better = minutes.verdicts(found, 0.05)
    assert "after 4 min: 5 times as fast." in faster
    assert "0.75 above real images" in better
    assert "5.27 times as far" in better  # (4 - 0.05) / (0.8 - 0.05)
    assert list(minutes.verdicts(minutes.curves(ROWS[2:]), 0.05)) == []


def test_the_table_has_a_cell_for_each_minute_and_the_spread_of_seeds():
    rate = {"settings": "s", "seconds_per_image": "0.01", "parameters": "2000000", "set_up_seconds": "3.2"}
    rates = dict.fromkeys(("ours", "diffusers"), rate | {"machine": "a machine", "measured": "2026-01-02"})
    lines = minutes.markdown([*ROWS, row("ours", 10, 1.0, seed=1)], rates).splitlines()
    assert "| ours | s | 2,000,000 | 100 | 3 |" in lines
    assert "| ours | 8 | 4 | 0.9 ± 0.14 | - | - | - | - |" in lines
    assert "| diffusers | - | - | 4 | 2 | 0.25 | 0.9 | 0.6 |" in lines
    assert "| real images | 0.05 | 0.05 | 0.05 | 0.05 | 0.05 | 0.05 | 0.05 |" in lines
