"""What the rows of benchmarks/minutes.py say: a table, two ratios and a figure. Nothing is trained or drawn here."""

from collections.abc import Mapping, Sequence
from math import exp, log
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from contenders import COURSE, OURS
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter, StrMethodFormatter
from race import FLOOR, Row

from ddpm.errors import UserError
from ddpm.figures.canvas import FAINT, SERIES, curve_axes, styled
from ddpm.run.files import atomic_path

ORDER = (OURS, "diffusers", "denoising-diffusion-pytorch", "smalldiffusion", COURSE)
HEADINGS = ("project", "network", "objective", "optimiser", "average of weights", "sampler")
# Columns that the distance is not to be read without, after the longest training.
BESIDE = {"class_distance": "classes off by", "precision": "precision", "recall": "recall"}
BEGIN, END = "<!-- result -->", "<!-- /result -->"
RATIO_MINUTES, LAST_MINUTES = 10.0, 20.0  # at which the two ratios are taken
Curve = Mapping[float, Sequence[float]]  # minutes: a score a seed


def curves(rows: Sequence[Row], column: str = "fid_fashion_cnn") -> dict[str, dict[float, list[float]]]:
    """Of each contender, in ORDER: its scores by minutes, ascending."""
    found: dict[str, dict[float, list[float]]] = {}
    for name in ORDER:
        mine = sorted((float(row["minutes"]), float(row[column])) for row in rows if row["contender"] == name)
        for minutes, value in mine:
            found.setdefault(name, {}).setdefault(minutes, []).append(value)
    return found


def time_to(curve: Curve, target: float) -> tuple[float, bool] | None:
    """(minutes after which the mean score is at most `target`, whether it may have been less), or None for never.

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
    """The name and the mean score of whoever but us is best after `minutes`."""
    others = {name: mean(curve[minutes]) for name, curve in found.items() if name != OURS and minutes in curve}
    return min(others.items(), key=lambda item: item[1]) if others else None


def verdicts(found: Mapping[str, Curve], floor: float) -> list[str]:
    """The two ratios in words, as far as the rows for them are there."""
    lines, ours = [], found.get(OURS, {})
    if (last := best_peer(found, LAST_MINUTES)) and (reached := time_to(ours, last[1])):
        minutes, bound = reached
        factor, word = LAST_MINUTES / minutes, "at most " if bound else ""
        lines.append(
            f"The best peer after {LAST_MINUTES:g} minutes is {last[0]} with {last[1]:.3g}. Ours is there after {word}"
            f"{minutes:.2g} minute{'s' * (minutes != 1)}: {factor:.3g} times as fast{' or faster' if bound else ''}."
        )
    if (rival := best_peer(found, RATIO_MINUTES)) and RATIO_MINUTES in ours:
        above, theirs = mean(ours[RATIO_MINUTES]) - floor, rival[1] - floor
        if above > 0:
            lines.append(
                f"After {RATIO_MINUTES:g} minutes ours is {above:.3g} above real images, the best peer, {rival[0]}, "
                f"{theirs:.3g}: {theirs / above:.3g} times as far."
            )
    return lines


def markdown(rows: Sequence[Row], floor: Row, rates: Mapping[str, Any]) -> str:
    """Settings, scores and ratios."""
    found, *others = (curves(rows, column) for column in ("fid_fashion_cnn", *BESIDE))
    measured = {name: rates["contenders"][name] for name in ORDER if name in rates["contenders"]}
    lines = [*header("", *HEADINGS, "parameters", "images/s", "set-up, s")]
    for name, rate in measured.items():
        numbers = f"{rate['parameters']:,}", f"{1 / rate['seconds_per_image']:.0f}", f"{rate['set_up_seconds']:.0f}"
        lines.append(line(name, *(rate["settings"][heading] for heading in HEADINGS), *numbers))
    budgets = sorted({minutes for curve in found.values() for minutes in curve})
    lines += ["", *header("minutes of training", *(f"{minutes:g}" for minutes in budgets), *BESIDE.values())]
    for name, curve in found.items():
        last = max(curve)
        cells = [spread(curve.get(minutes, [])) for minutes in budgets]
        lines.append(line(name, *cells, *(f"{mean(other[name][last]):.0%} after {last:g}" for other in others)))
    value = f"{float(floor['fid_fashion_cnn']):.3f}"
    lines.append(line(FLOOR, *(value for _ in budgets), *(f"{float(floor[column]):.0%}" for column in BESIDE)))
    dates = sorted({rate["date"] for rate in measured.values()})
    lines += [
        "",
        f"`fid_fashion_cnn` (extractor {floor['extractor']}) of {floor['n_samples']} samples against the 10,000 test "
        "images: lower is better; mean ± standard deviation where several seeds were trained. Rates measured on "
        f"{' and '.join(dates)}: {rates['machine']}.",
        *verdicts(found, float(floor["fid_fashion_cnn"])),
    ]
    return "\n".join(lines)


def insert(path: Path, text: str) -> None:
    """Put `text` between the two markers of the file; UserError where it has none."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"{path}: lacks {BEGIN} or {END}, between which the result belongs")
    with atomic_path(path) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


@styled
def figure(rows: Sequence[Row], floor: Row, machine: str) -> Figure:
    """Quality against minutes of training, both on log scales: a line a contender, bars from seed to seed."""
    found = curves(rows)
    result, axes = curve_axes(
        "Quality against minutes of training",
        f"Frechet distance of {floor['n_samples']} samples to FashionMNIST's test images, in a classifier's features: "
        f"lower is better. Dots are means, bars the best and worst seed. {machine}.",
        "minutes of training",
        "fid_fashion_cnn",
    )
    for name, color in zip(ORDER, SERIES, strict=False):
        if curve := found.get(name):
            means = [mean(values) for values in curve.values()]
            below = [centre - min(values) for centre, values in zip(means, curve.values(), strict=True)]
            above = [max(values) - centre for centre, values in zip(means, curve.values(), strict=True)]
            axes.errorbar(list(curve), means, [below, above], label=name, color=color, marker="o", markersize=4)
    value = float(floor["fid_fashion_cnn"])
    axes.axhline(value, color=FAINT, linestyle="--", label=f"{FLOOR}: {value:.3f}")
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(sorted({minutes for curve in found.values() for minutes in curve}))
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(loc="best", ncols=2)
    return result


def spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{mean(values):.3g}" + (f" ± {stdev(values):.2g}" if len(values) > 1 else "")


def header(*cells: str) -> tuple[str, str]:
    return line(*cells), "|" + "---|" * len(cells)


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
