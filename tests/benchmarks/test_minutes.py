"""The benchmark's own arithmetic: figure and table."""

from benchmarks import minutes


def row(contender, after, score, seed=0):
    scores = {name: str(score if name == minutes.SHOWN[0] else 0.25) for name in minutes.SHOWN}
    floors = {f"{name}_floor": "0.05" for name in minutes.SHOWN}
    return {"contender": contender, "minutes": f"{after:g}", "seed": str(seed), **scores, **floors}


ROWS = [row("diffusers", t, 40 / t) for t in (20, 10)] + [row("ours", t, 8 / t) for t in (1, 2, 10)]


def test_table_has_a_line_per_contender_and_minutes_with_spread():
    rate = {"seconds_per_image": "0.01", "parameters": "2000000", "set_up_seconds": "3.2"}
    rates = dict.fromkeys(("ours", "diffusers"), rate | {"machine": "a machine", "measured": "2026-01-02"})
    text = minutes.markdown([*ROWS, row("ours", 10, 1.0, seed=1)], rates)
    assert "| ours | 2,000,000 | 100 | 3 |" in text
    assert [line.partition("0.25")[0] for line in text.splitlines() if "0.25" in line] == [
        "| ours | 1 | 1 | 8 | ",
        "| ours | 2 | 1 | 4 | ",
        "| ours | 10 | 2 | 0.9 ± 0.14 | ",
        "| diffusers | 10 | 1 | 4 | ",
        "| diffusers | 20 | 1 | 2 | ",
    ]
    assert "Real images: worst_auc 0.05" in text
