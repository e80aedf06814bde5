"""How good are samples after 1, 2, 5, 10 and 20 minutes of training: ours, the course's, three public projects'?

    make benchmark                                      # everything: most of a day on two cores
    python -m benchmarks.minutes rate                   # only how fast each trains, on a quiet machine
    python -m benchmarks.minutes run --only diffusers --minutes 1 2
    python -m benchmarks.minutes report                 # only table and figure of the rows that are there

What a minute is: benchmarks/core/rates.py. Ours and the course's are DVC experiments. A peer's learning rate is
constant, so one training passes through all its minutes. Writes reports/benchmark/ and the result in docs/benchmark.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import exp, log
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.core.experiments import params_with
from benchmarks.core.ledger import Ledger, Row, groups, numbers
from benchmarks.core.options import count, positive
from benchmarks.core.peer import EVALUATIONS, PEERS, Peer
from benchmarks.core.race import KEY, race
from benchmarks.core.rates import Ours, Rates, rate_options
from benchmarks.core.report import figure, insert, spread, table
from ddpm import recipes
from ddpm.figures.canvas import save
from ddpm.run.stage import mistakes_in_one_line

LEDGER, RATES = Ledger(Path("reports/benchmark/minutes.csv"), KEY), Rates(Path("reports/benchmark/rates.csv"))
DOC, PICTURE = Path("docs/benchmark.md"), Path("reports/benchmark/minutes.png")
SCORE = "fid_classifier"
BESIDE = "class_distance_classifier", "precision_classifier", "recall_classifier"
OURS, COURSE = "ours", "course"
# All of the course's steps would take an hour a row; noise as strong as fixed_large does not suit a chain of fewer.
SHORTER = {"sample": {"unet": {"n_steps": EVALUATIONS, "ancestral": {"variance": "fixed_small"}}}}
RATIO_MINUTES, LAST_MINUTES = 10.0, 20.0  # at which the two ratios are taken
Curve = Mapping[float, Sequence[float]]  # minutes: a score a seed


def main() -> None:
    names = [OURS, COURSE, *PEERS]
    parser = rate_options(__doc__, names)
    parser.add_argument("--minutes", type=positive, nargs="+", default=[1.0, 2.0, 5.0, 10.0, 20.0], help="of training")
    parser.add_argument("--seeds", type=int, nargs="+", help="by default three for ours, one for the others")
    parser.add_argument("-j", "--jobs", type=count, default=1, help="runs of the pipeline at a time")
    asked = parser.parse_args()
    seeds = {name: asked.seeds or ([0, 1, 2] if name == OURS else [0]) for name in names}
    changes: dict[str, dict[str, Any]] = {OURS: {}, COURSE: recipes.merged(recipes.load(COURSE), SHORTER)}
    try:
        if asked.phase != "report":
            ours = [Ours(name, changes[name]) for name in changes if name in asked.only]
            others = [Peer(name, params_with({}).threads) for name in PEERS if name in asked.only]
            race(asked, LEDGER, RATES, ours, seeds, {"evaluate_unet": {"reference": "test"}}, others)
    finally:
        report()


def report() -> None:
    """Table and figure of the rows that are there."""
    rows = LEDGER.latest(of=("contender", "minutes"), agree=("settings", "n_steps"))
    if not rows:
        return
    rates = {row["contender"]: row for row in RATES.rows()}
    insert(DOC, f"{markdown(rows, rates)}\n\n![Quality against minutes of training](../{PICTURE})")
    drawn = figure(
        "Quality against minutes of training",
        "Frechet distance of samples to test images, in a classifier's features: lower is better. Dots are means, bars "
        f"the best and the worst seed. {rates[OURS]['machine']}.",
        "minutes of training",
        SCORE,
        {"": curves(rows)},
        {"real images": numbers(rows, f"{SCORE}_floor")[-1]},
    )
    save(drawn, PICTURE)


def curves(rows: Sequence[Row], column: str = SCORE) -> dict[str, dict[float, list[float]]]:
    """The scores of each contender by minutes, ours first."""
    ordered = sorted(rows, key=lambda row: (row["contender"] != OURS, row["contender"], float(row["minutes"])))
    return {
        name: {float(minutes): numbers(seeds, column) for (minutes,), seeds in groups(mine, "minutes")}
        for (name,), mine in groups(ordered, "contender")
    }


def markdown(rows: Sequence[Row], rates: Mapping[str, Row]) -> str:
    """Rates, scores and the two ratios."""
    found, beside = curves(rows), [curves(rows, column) for column in BESIDE]
    speeds = (
        (
            name,
            rates[name]["settings"],
            f"{int(rates[name]['parameters']):,}",
            f"{1 / float(rates[name]['seconds_per_image']):.0f}",
            f"{float(rates[name]['set_up_seconds']):.0f}",
        )
        for name in found
    )
    minutes = sorted({minutes for curve in found.values() for minutes in curve})
    after = f"{max(minutes):g}"
    scores = [
        (
            name,
            *(spread(curve.get(each, [])) for each in minutes),
            *(spread(o[name].get(max(minutes), [])) for o in beside),
        )
        for name, curve in found.items()
    ]
    floors = [spread(numbers(rows, f"{column}_floor")[-1:]) for column in (SCORE, *BESIDE)]
    scores.append(("real images", *floors[:1] * len(minutes), *floors[1:]))
    parts = (
        table(("", "version or settings", "parameters", "images/s", "set-up, s"), speeds),
        table(
            (
                f"`{SCORE}` after minutes of training",
                *(f"{each:g}" for each in minutes),
                *(f"`{c}` after {after}" for c in BESIDE),
            ),
            scores,
        ),
        f"Lower is better; mean ± standard deviation if several seeds were trained. Rates were measured on "
        f"{rates[OURS]['measured']}: {rates[OURS]['machine']}.",
        *verdicts(found, numbers(rows, f"{SCORE}_floor")[-1]),
    )
    return "\n\n".join(parts)


def time_to(curve: Curve, target: float) -> tuple[float, bool] | None:
    """The minutes after which the mean score is at most `target`, and whether it may have been fewer; None for never.

    Between two points the curve is a straight line in log minutes and log score; before the first nothing is known.
    """
    points = [(minutes, mean(values)) for minutes, values in sorted(curve.items())]
    for i, (minutes, value) in enumerate(points):
        if value > target:
            continue
        if i == 0:
            return minutes, True
        earlier, higher = points[i - 1]
        share = (log(higher) - log(target)) / (log(higher) - log(value))
        return exp(log(earlier) + share * (log(minutes) - log(earlier))), False
    return None


def best_peer(found: Mapping[str, Curve], minutes: float) -> tuple[str, float] | None:
    """The name and the mean score of the best contender but ours after `minutes`."""
    others = {name: mean(curve[minutes]) for name, curve in found.items() if name != OURS and minutes in curve}
    return min(others.items(), key=lambda item: item[1]) if others else None


def verdicts(found: Mapping[str, Curve], floor: float) -> Iterator[str]:
    """The two ratios in words, as far as the rows for them are there."""
    ours = found.get(OURS, {})
    if (last := best_peer(found, LAST_MINUTES)) and (reached := time_to(ours, last[1])):
        minutes, bound = reached
        yield (
            f"The best peer after {LAST_MINUTES:g} minutes is {last[0]} with {last[1]:.3g}. Ours gets there after "
            f"{'at most ' * bound}{minutes:.2g} min: {LAST_MINUTES / minutes:.3g} times as fast{' or faster' * bound}."
        )
    if (rival := best_peer(found, RATIO_MINUTES)) and RATIO_MINUTES in ours:
        above, theirs = mean(ours[RATIO_MINUTES]) - floor, rival[1] - floor
        if above > 0:
            yield (
                f"After {RATIO_MINUTES:g} minutes ours is {above:.3g} above real images, the best peer, {rival[0]}, "
                f"{theirs:.3g}: {theirs / above:.3g} times as far."
            )


if __name__ == "__main__":
    with mistakes_in_one_line("minutes"):
        main()
