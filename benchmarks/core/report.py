"""Reports: Markdown tables in docs, and figures with a line for each series."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from benchmarks.core.ledger import Row, groups, numbers
from ddpm.errors import UserError
from ddpm.figures.canvas import FAINT, colors, curve_panels, legend_above, plain_log_scale, styled
from ddpm.run.files import atomic_path

BEGIN, END = "<!-- result -->", "<!-- /result -->"
Series = Mapping[str, Mapping[Any, Sequence[float]]]  # by name and x (a number or a word): one value per seed


def table(columns: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    head = list(columns)
    lines: list[Iterable[object]] = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation, such as "0.383 ± 0.13", or only the value if there is one, or a dash if none."""
    if not values:
        return "-"
    return f"{mean(values):.3g}" + (f" ± {stdev(values):.2g}" if len(values) > 1 else "")


def summary(rows: Sequence[Row], by: Sequence[str], shown: Sequence[str]) -> str:
    """A table with a line for each group of rows with equal columns `by`: the spread of the columns `shown`."""
    lines = ((*key, len(runs), *(spread(numbers(runs, each)) for each in shown)) for key, runs in groups(rows, *by))
    return table((*by, "runs", *shown), lines)


def real_images(rows: Sequence[Row], shown: Sequence[str]) -> str:
    """The scores of real images in the newest row, as text."""
    return ", ".join(f"{each} {spread(numbers(rows, f'{each}_floor')[-1:])}" for each in shown)


def insert(path: Path, text: str) -> None:
    """Replace the text between the markers BEGIN and END of a file.

    Raises:
        UserError: The file lacks a marker.
    """
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"{path}: lacks {BEGIN} or {END}, between which the result belongs")
    with atomic_path(path) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}")


@styled
def figure(
    title: str, note: str, xlabel: str, ylabel: str, panels: Mapping[str, Series], levels: Mapping[str, float] = {}
) -> Figure:
    """A panel of lines for each item of `panels`: means, with bars from minimum to maximum.

    Axes are logarithmic, except an x axis of words.

    Args:
        title: The figure's title.
        note: Text under the title.
        xlabel: Label of each panel's x axis.
        ylabel: Label of the first panel's y axis.
        panels: The lines of each panel, by the panel's name.
        levels: Dashed lines across all panels, such as the score of real images.
    """
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    color = dict(zip(names, colors(len(names)), strict=True))
    result, axes = curve_panels(title, note, xlabel, ylabel, list(panels), n_series=len(names) + len(levels))
    for each, series in zip(axes, panels.values(), strict=True):
        for name, line in series.items():
            means = [mean(values) for values in line.values()]
            below = [centre - min(values) for centre, values in zip(means, line.values(), strict=True)]
            above = [max(values) - centre for centre, values in zip(means, line.values(), strict=True)]
            each.errorbar(list(line), means, [below, above], label=name, color=color[name], marker="o", markersize=4)
        for name, level in levels.items():
            each.axhline(level, color=FAINT, linestyle="--", label=f"{name}: {level:.3f}")
        if xs := {x for line in series.values() for x in line if isinstance(x, float | int)}:
            each.set_xscale("log")
            each.set_xticks([x for x in sorted(xs) if not any(x < other < 1.2 * x for other in xs)])
            each.minorticks_off()
            each.xaxis.set_major_formatter(ScalarFormatter())
        else:
            each.margins(x=0.3)
    plain_log_scale(axes[0])
    legend_above(result, axes)
    return result
