"""What the rows of benchmarks/ablation.py say: a table and a figure. Nothing is trained or measured here."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from statistics import mean

from matplotlib.figure import Figure

from ddpm.figures.canvas import FAINT, INK, SERIES, curve_panels, styled

PREDICTIONS = ("mean", "x0", "eps", "v")
WEIGHTINGS = ("bound", "simple")
VARIANCES = ("fixed_small", "learned")
Row = Mapping[str, str]


def table(rows: Sequence[Row], facts: str) -> str:
    """A line a cell, in Markdown: mean over its seeds, and the range; under it why runs failed."""
    lines = [
        "| prediction | loss | variance | fid_fashion_cnn | bits/dim, test split | held-out loss | failed |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell, runs in by_cell(rows).items():
        good = [run for run in runs if not run["failure"]]
        shown = (spread(run[key] for run in good) for key in ("fid_fashion_cnn", "bits_per_dim", "eval_loss"))
        lines.append(f"| {' | '.join((*cell, *shown))} | {len(runs) - len(good)} of {len(runs)} |")
    floors = [run["fid_fashion_cnn_floor"] for run in rows if not run["failure"]]
    lines += ["", f"Mean over the seeds that did not fail (least to most). Real images: {spread(floors)}. {facts}.", ""]
    lines += [
        f"- {run['prediction']}, {run['weighting']}, {run['variance']}, seed {run['seed']}: {run['failure']}"
        for run in rows
        if run["failure"]
    ]
    return "\n".join(lines) + "\n"


def by_cell(rows: Iterable[Row]) -> dict[tuple[str, str, str], list[Row]]:
    found: dict[tuple[str, str, str], list[Row]] = {}
    for run in rows:
        found.setdefault((run["prediction"], run["weighting"], run["variance"]), []).append(run)
    return found


def spread(values: Iterable[str]) -> str:
    """ "2.5 (2.1 to 3)"; a dash where there is none."""
    numbers = [float(value) for value in values if value]
    if not numbers:
        return "-"
    return f"{mean(numbers):.4g} ({min(numbers):.4g} to {max(numbers):.4g})"


@styled
def figure(rows: Sequence[Row], facts: str) -> Figure:
    """A panel a prediction, a place a loss and variance: a dot a seed, a line at their mean, a cross for a failure."""
    result, panels = curve_panels(
        "Table 2 of Ho et al. 2020, and more: prediction, loss and variance",
        "Frechet distance, in a FashionMNIST classifier's features, of the samples to held-out images of the training "
        "split, after a small equal budget: lower is better. A dot a seed, a line at the mean, a cross at the top for "
        f"each run that failed. Dashed: as many real images. {facts}.",
        "loss, variance",
        "fid_fashion_cnn",
        [f"prediction: {prediction}" for prediction in PREDICTIONS],
    )
    good = [run for run in rows if not run["failure"]]
    places = list(product(WEIGHTINGS, VARIANCES))
    for axes, prediction in zip(panels, PREDICTIONS, strict=True):
        for x, (place, color) in enumerate(zip(places, SERIES, strict=False)):
            runs = by_cell(rows).get((prediction, *place), [])
            scores = [float(run["fid_fashion_cnn"]) for run in runs if not run["failure"]]
            if scores:
                axes.plot([x] * len(scores), scores, "o", color=color, markersize=5, alpha=0.8)
                axes.hlines(mean(scores), x - 0.3, x + 0.3, color=color, linewidth=2)
            failed = [x + 0.2 * (i - 1) for i, run in enumerate(run for run in runs if run["failure"])]
            axes.plot(failed, [0.97] * len(failed), "x", color=INK, transform=axes.get_xaxis_transform())
        if good:
            floor = mean(float(run["fid_fashion_cnn_floor"]) for run in good)
            axes.axhline(floor, color=FAINT, linestyle="--", linewidth=1)
        axes.set_xlim(-0.5, len(places) - 0.5)
        axes.set_xticks(range(len(places)), [f"{loss}\n{kind.partition('_')[0]}" for loss, kind in places], fontsize=8)
    panels[0].set_yscale("log")
    panels[0].set_ylim(top=2 * panels[0].get_ylim()[1])  # room for the crosses
    return result
