"""Sample quality after 2.5 minutes of training: this project, the course and three public projects.

    make benchmark                                      # everything: two hours on two cores
    python -m benchmarks.minutes rate                   # only measure training speeds, on an idle machine
    python -m benchmarks.minutes run --only diffusers --minutes 2.5 10
    python -m benchmarks.minutes report                 # only write the table and figure of the available rows

benchmarks/core/rates.py defines what a minute is. This project and the course are run as DVC experiments. A peer's
learning rate is constant, so one training run serves all of its durations. Writes benchmarks/results/benchmark/ and the
result in docs/benchmark.md.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks.core.ledger import Ledger, Row, groups
from benchmarks.core.options import add_work, positive
from benchmarks.core.peer import EVALUATIONS, PEERS, Peer
from benchmarks.core.race import KEY, current, race, samples_of
from benchmarks.core.rates import DATA, Ours, Rates, rate_options
from benchmarks.core.report import insert, real_images, summary, table
from ddpm import recipes
from ddpm.data.dataset import load_dataset
from ddpm.figures.canvas import image_table, save
from ddpm.images import from_uint8
from ddpm.run.files import load_tensors
from ddpm.run.stage import mistakes_in_one_line

LEDGER, RATES = (
    Ledger(Path("benchmarks/results/benchmark/minutes.csv"), KEY),
    Rates(Path("benchmarks/results/benchmark/rates.csv")),
)
DOC, PICTURE = Path("docs/benchmark.md"), Path("benchmarks/results/benchmark/minutes.png")
SHOWN = "worst_auc", "auc_16_levels", "recall_classifier", "coverage_classifier", "patches_fine", "fid_classifier"
OURS, COURSE = "ours", "course"
# All of the course's steps would take an hour per row, and fixed_large adds too much noise in a shorter chain.
SHORTER = {"sample": {"unet": {"n_steps": EVALUATIONS, "ancestral": {"variance": "fixed_small"}}}}


def main() -> None:
    names = [OURS, COURSE, *PEERS]
    parser = rate_options(__doc__, names)
    parser.add_argument("--minutes", type=positive, nargs="+", default=[2.5], help="minutes of training")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: three for ours, one for the others")
    add_work(parser, jobs=1)
    asked = parser.parse_args()
    seeds = {name: asked.seeds or ([0, 1, 2] if name == OURS else [0]) for name in names}
    changes: dict[str, dict[str, Any]] = {OURS: {}, COURSE: recipes.merged(recipes.load(COURSE), SHORTER)}
    try:
        if asked.phase != "report":
            ours = [Ours(name, changes[name]) for name in changes if name in asked.only]
            others = [Peer(name) for name in PEERS if name in asked.only]
            race(asked, LEDGER, RATES, ours, seeds, {"evaluate_unet": {"reference": "test"}}, others)
    finally:
        report()


def report() -> None:
    """Write the table and the figure of the available rows."""
    rows = current(LEDGER)
    if not rows:
        return
    rates = {row["contender"]: row for row in RATES.rows()}
    insert(DOC, f"{markdown(rows, rates)}\n\n![Samples of each contender](../{PICTURE})")
    if drawn := pictures(rows):
        save(drawn, PICTURE)


def pictures(rows: Sequence[Row], n: int = 24) -> Figure | None:
    """The first samples of each contender after the shortest training, where they are kept."""
    fewest = min(rows, key=lambda row: float(row["minutes"]))["minutes"]
    alike = groups([row for row in ordered(rows) if row["minutes"] == fewest], "contender")
    first = {name: samples_of(seeds[0]) for (name,), seeds in alike}
    kept = {name: load_tensors(path)["samples"][:n] for name, path in first.items() if path.exists()}
    if not kept:
        return None
    sets = {"real images": load_dataset(DATA["held_out"]).images[:n], **kept}
    return image_table(
        from_uint8(torch.cat(list(sets.values()))),
        n // 2,
        title=f"Samples after {fewest} minutes of training",
        note="The first samples of one seed, uncurated. Trained on two CPU cores.",
        xlabel=f"{n} images each",
        ylabel="contender",
        rows=[word for name in sets for word in (name, "")],
        row_breaks=range(2, 2 * len(sets), 2),
    )


def ordered(rows: Sequence[Row]) -> list[Row]:
    """The rows sorted by contender, ours first, then by minutes."""
    return sorted(rows, key=lambda row: (row["contender"] != OURS, row["contender"], float(row["minutes"])))


def markdown(rows: Sequence[Row], rates: Mapping[str, Row]) -> str:
    """The tables of rates and scores."""
    speeds = (
        (
            name,
            f"{int(rates[name]['parameters']):,}",
            f"{1 / float(rates[name]['seconds_per_image']):.0f}",
            f"{float(rates[name]['set_up_seconds']):.0f}",
        )
        for (name,), _ in groups(ordered(rows), "contender")
    )
    return "\n\n".join(
        (
            table(("contender", "parameters", "images/s", "set-up, s"), speeds),
            f"Rates were measured on {rates[OURS]['measured'][:10]}: {rates[OURS]['machine']}.",
            summary(ordered(rows), ("contender", "minutes"), SHOWN),
            f"Mean ± standard deviation over the seeds. Real images: {real_images(rows, SHOWN)}.",
        )
    )


if __name__ == "__main__":
    with mistakes_in_one_line("minutes"):
        main()
