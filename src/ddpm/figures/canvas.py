"""Shared by all figures: style, image grids, axes for curves, and PNG files that are identical on every run."""

import json
from collections.abc import Sequence
from colorsys import hsv_to_rgb
from itertools import accumulate, pairwise
from pathlib import Path
from textwrap import fill
from typing import Literal

import torch
from jaxtyping import Float
from matplotlib import rcParams, style
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from torch import Tensor

from ddpm.run.files import atomic_path

# Twice the width of a README column: browsers scale it down by exactly two, and high-DPI screens show every pixel.
DPI = 150
WIDTH = 1380
MARGIN = 24
GAP = 4
BREAK = 22
MIN_CELL, MAX_CELL = 44, 200
LINE = 27
CHARACTER = 12  # upper bound on the mean width of a label's characters
NOTE_LENGTH = 118  # characters of a note that fit in WIDTH
LEGEND_COLUMNS = 4
GOLDEN_RATIO = (1 + 5**0.5) / 2
INK, FAINT = "#1a202c", "#5a6475"
BLUE, ORANGE, GREY = "#2b6cb0", "#dd6b20", "#a0aec0"
SERIES = BLUE, ORANGE, "#2f855a", "#805ad5", "#b83280", "#975a16"

# On top of matplotlib's defaults, so that a user's matplotlibrc cannot change a figure.
styled = style.context(
    {
        "font.size": 10,
        "text.color": INK,
        "axes.labelcolor": FAINT,
        "axes.edgecolor": GREY,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e2e8f0",
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "legend.frameon": False,
        "figure.dpi": DPI,
    },
    after_reset=True,
)


def colors(n: int) -> list[str]:
    """`n` distinct colours: those of SERIES, then hues spaced by the golden ratio."""
    further = (hsv_to_rgb((0.4 + i / GOLDEN_RATIO) % 1, 1, 0.45 + 0.3 * (i % 2)) for i in range(n - len(SERIES)))
    return [*SERIES[:n], *map(to_hex, further)]


@styled
def save(figure: Figure, path: str | Path, caption: str = "", alt: str = "") -> None:
    """Write a figure as PNG, atomically. The same figure gives the same bytes on every run.

    The caption, the alternative text and the positions of the images in the figure are stored in the file's metadata.

    Args:
        figure: The figure.
        path: The PNG file.
        caption: What the figure shows and what it means.
        alt: Alternative text: what can be seen in the figure.
    """
    words = {"Caption": caption, "Alt": alt, "Images": json.dumps(image_boxes(figure))}
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None, **words})


def image_boxes(figure: Figure) -> list[list[int]]:
    """(left, top, right, bottom) of each image in a figure, in pixels from its upper left corner."""
    boxes = [image.get_window_extent() for axes in figure.axes for image in axes.images]
    height = figure.bbox.height
    return [[round(box) for box in (b.x0, height - b.y1, b.x1, height - b.y0)] for b in boxes]


@styled
def image_table(
    images: Float[Tensor, "n c h w"],
    n_columns: int,
    *,
    title: str,
    note: str,
    xlabel: str,
    ylabel: str,
    columns: Sequence[str] = (),
    rows: Sequence[str] = (),
    column_breaks: Sequence[int] = (),
    row_breaks: Sequence[int] = (),
) -> Figure:
    """A grid of images in row-major order. Each image is enlarged by an integer factor.

    Args:
        images: Images in [0, 1], with 1 or 3 channels.
        n_columns: Images per row.
        title: The figure's title.
        note: Text under the title.
        xlabel: Label of the columns.
        ylabel: Label of the rows.
        columns: Headings of the columns.
        rows: Headings of the rows.
        column_breaks: Columns before which the gap is wider.
        row_breaks: Rows before which the gap is wider.

    Returns:
        A figure whose axes are in pixels, y pointing down.
    """
    n, _, h, w = images.shape
    n_rows = -(-n // n_columns)
    left = 2 * MARGIN + LINE + CHARACTER * _longest_line(rows)
    top = _below_note(note) + 12 + LINE * (2 + _lines(*columns))
    room = WIDTH - left - MARGIN - _starts(n_columns, 0, column_breaks)[-1]
    scale = max(-(-MIN_CELL // w), min(room // (n_columns * w), MAX_CELL // max(h, w)))
    x, y = _starts(n_columns, scale * w, column_breaks), _starts(n_rows, scale * h, row_breaks)
    ylabel = fill(ylabel, max(1, y[-1] // CHARACTER), break_long_words=False)  # no longer than the height of the grid
    left += LINE * ylabel.count("\n")
    figure, axes = _figure_of_dots(max(WIDTH, left + x[-1] + MARGIN), top + y[-1] + MARGIN, left, top, x[-1], y[-1])
    _write_title(figure, title, note)
    axes.set(xlim=(0, x[-1]), ylim=(y[-1], 0), frame_on=False)
    axes.grid(False)
    for i, image in enumerate(images):
        row, column = divmod(i, n_columns)
        extent = (x[column], x[column] + scale * w, y[row] + scale * h, y[row])
        show(axes, image, extent)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0, pad=8)
    axes.set_xticks([start + scale * w / 2 for start in x[: len(columns)]], columns, linespacing=1.3, va="baseline")
    axes.set_yticks([start + scale * h / 2 for start in y[: len(rows)]], rows)
    axes.set_xlabel(xlabel, labelpad=8)
    axes.set_ylabel(ylabel, labelpad=8)
    return figure


@styled
def curve_axes(title: str, note: str, xlabel: str, ylabel: str, names: Sequence[str] = ()) -> tuple[Figure, Axes]:
    """A figure with one wide plot.

    Args:
        title: The figure's title.
        note: Text under the title.
        xlabel: Label of the x axis.
        ylabel: Label of the y axis.
        names: Tick labels at 0, 1, ... of the x axis, in place of numbers, rotated if they do not fit side by side.
    """
    left, top, width, height = 140, _below_note(note) + 2 * LINE, WIDTH - 140 - MARGIN, 420
    room = width // max(len(names), 1)
    upright = any(CHARACTER * (len(a) + len(b) + 1) / 2 > room for a, b in pairwise(names))
    size = min(rcParams["font.size"], room * 72 / DPI / 1.3) if upright else rcParams["font.size"]  # points
    bottom = 90 + upright * int(CHARACTER * _longest_line(names) * size / rcParams["font.size"])
    figure, axes = _figure_of_dots(WIDTH, top + height + bottom, left, top, width, height)
    _write_title(figure, title, note)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if names:
        axes.set_xticks(range(len(names)), names, rotation=90 * upright, fontsize=size)
        axes.set_xlim(-0.6, len(names) - 0.4)
    return figure, axes


@styled
def curve_panels(
    title: str,
    note: str,
    xlabel: str,
    ylabel: str,
    names: Sequence[str],
    share_y: bool = True,
    n_series: int = 2 * LEGEND_COLUMNS,
) -> tuple[Figure, list[Axes]]:
    """A figure with several plots side by side, and room for a legend above them.

    Args:
        title: The figure's title.
        note: Text under the title.
        xlabel: Label of each x axis.
        ylabel: Label of each y axis.
        names: The title of each plot.
        share_y: Whether all plots share one y scale.
        n_series: Number of legend entries to leave room for.
    """
    legend_rows = -(-n_series // LEGEND_COLUMNS)
    top = _below_note(note) + (3 + legend_rows) * LINE
    height = top + 420 + 90
    figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI)
    panels: list[Axes] = figure.subplots(1, len(names), sharey=share_y, squeeze=False)[0].tolist()
    between = 0.06 if share_y else 0.35
    figure.subplots_adjust(140 / WIDTH, 90 / height, 1 - MARGIN / WIDTH, 1 - top / height, wspace=between)
    for name, axes in zip(names, panels, strict=True):
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.set_title(name, loc="left", fontsize=10, color=INK)
        axes.yaxis.label.set_visible(axes is panels[0] or not share_y)
    _write_title(figure, title, note)
    return figure, panels


def legend_above(figure: Figure, panels: Sequence[Axes], ncols: int = LEGEND_COLUMNS) -> None:
    """One legend for all of `curve_panels`, above the last plot's right end, without duplicate entries."""
    found = {word: line for axes in panels for line, word in zip(*axes.get_legend_handles_labels(), strict=True)}
    corner = panels[-1].get_position()
    above = 1.2 * LINE / figure.bbox.height
    figure.legend(
        found.values(),
        found.keys(),
        loc="lower right",
        ncols=ncols,
        borderaxespad=0,
        bbox_to_anchor=(corner.x1, corner.y1 + above),
    )


def legend_over(axes: Axes, ncols: int) -> None:
    """The legend of `curve_axes`, in the upper right corner."""
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=ncols, borderaxespad=0.2)


def plain_log_scale(axes: Axes) -> None:
    """A logarithmic y axis with tick labels such as 0.5, without exponents."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def show(axes: Axes, image: Float[Tensor, "c h w"], extent: tuple[int, int, int, int] | None = None) -> None:
    """Draw one image without interpolation.

    Args:
        axes: Where to draw it.
        image: An image in [0, 1], grey if it has one channel.
        extent: (left, right, bottom, top) in data coordinates, which then set the aspect ratio. None for square pixels.
    """
    pixels = image.detach().cpu().permute(1, 2, 0).numpy()
    aspect: Literal["auto", "equal"] = "equal" if extent is None else "auto"
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=extent, aspect=aspect)


def evenly_spaced(count: int, n: int) -> Tensor:
    """`n` evenly spaced indices of 0..count-1, including the first and (for n > 1) the last. All if n > count."""
    return torch.linspace(0, count - 1, min(n, count), dtype=torch.float64).round().long()


def _figure_of_dots(
    width: int, height: int, left: int, top: int, axes_width: int, axes_height: int
) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    bottom = height - top - axes_height
    return figure, figure.add_axes((left / width, bottom / height, axes_width / width, axes_height / height))


def _write_title(figure: Figure, title: str, note: str) -> None:
    width, height = figure.get_size_inches() * DPI
    figure.suptitle(title, x=MARGIN / width, y=1 - MARGIN / height, ha="left", va="top", fontsize=13, fontweight="bold")
    y = 1 - (MARGIN + 1.5 * LINE) / height
    figure.text(MARGIN / width, y, fill(note, NOTE_LENGTH), ha="left", va="top", color=FAINT, linespacing=1.3)


def _below_note(note: str) -> int:
    return MARGIN + int(1.5 * LINE) + LINE * _lines(fill(note, NOTE_LENGTH))


def _starts(count: int, size: int, breaks: Sequence[int]) -> list[int]:
    """The start of each of `count` cells of `size` pixels, and the end of the last one."""
    gaps = [BREAK if i in breaks else GAP for i in range(1, count)]
    return [*accumulate((size + gap for gap in gaps), initial=0), count * size + sum(gaps)]


def _lines(*texts: str) -> int:
    return max((text.count("\n") + 1 for text in texts if text), default=0)


def _longest_line(texts: Sequence[str]) -> int:
    return max((len(line) for text in texts for line in text.split("\n")), default=0)
