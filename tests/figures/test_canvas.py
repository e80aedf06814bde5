"""Colours, tables of images and axes that all figures share."""

import json
from itertools import combinations, pairwise
from pathlib import Path

import numpy
import pytest
import torch
from figures.drawn import random_images
from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from ddpm.figures.canvas import SERIES, colors, curve_axes, curve_panels, evenly_spaced, image_table, legend_above, save


def a_table() -> Figure:
    return image_table(random_images(5, 3, 6, 4), 3, title="t", note="n", xlabel="x", ylabel="y")


def a_curve() -> Figure:
    figure, axes = curve_axes("t", "n", "x", "y")
    axes.plot([1, 2], [3, 4])
    return figure


@pytest.mark.parametrize("n", [0, 1, 4, 6, 7, 12, 30])
def test_colors_are_distinct_for_any_number_of_series(n: int) -> None:
    found = colors(n)
    assert len(found) == n
    assert found == colors(100)[:n]  # more series do not change the first colours
    assert found[: len(SERIES)] == list(SERIES[:n])
    # Any two colours differ by a tenth of the range in some channel: enough to tell their lines apart.
    apart = [max(abs(a - b) for a, b in zip(*map(to_rgb, pair), strict=True)) for pair in combinations(found, 2)]
    assert min(apart, default=1) > 0.1


def test_saved_file_records_image_boxes(tmp_path: Path) -> None:
    """Each box contains its image, enlarged."""
    images = random_images(5, 3, 6, 4)
    save(image_table(images, 3, title="t", note="n", xlabel="x", ylabel="y"), tmp_path / "f.png")
    with Image.open(tmp_path / "f.png") as file:
        dots, boxes = numpy.asarray(file.convert("RGB")), json.loads(file.info["Images"])
    assert len(boxes) == 5
    for image, (left, top, right, bottom) in zip(images, boxes, strict=True):
        scale = (right - left) // 4
        expected = (image.permute(1, 2, 0) * 255).numpy().repeat(scale, 0).repeat(scale, 1)
        assert abs(dots[top:bottom, left:right] - expected).max() <= 1
    save(a_curve(), tmp_path / "f.png")
    with Image.open(tmp_path / "f.png") as file:
        assert file.info["Images"] == "[]"


@pytest.mark.parametrize("n_series", [2, 8, 9, 15])
def test_legend_fits_between_note_and_panels(n_series: int) -> None:
    figure, panels = curve_panels("t", "a note " * 40, "x", "y", ["one", "two"], n_series=n_series)
    for i, color in enumerate(colors(n_series)):
        panels[1].plot([1, 2], [i, i], label=f"series {i}", color=color)
    legend_above(figure, panels)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert len(legend.get_texts()) == n_series
    box, note = legend.get_window_extent(), figure.texts[1].get_window_extent()
    assert box.y1 <= note.y0
    assert box.y0 >= max(axes.title.get_window_extent().y1 for axes in panels)


@pytest.mark.parametrize(("count", "n"), [(2, 2), (7, 7), (101, 20), (1001, 21), (5, 4)])
def test_evenly_spaced_includes_ends_and_rounds_to_nearest(count: int, n: int) -> None:
    picked = evenly_spaced(count, n).tolist()
    assert len(picked) == n
    assert (picked[0], picked[-1]) == (0, count - 1)
    assert all(abs(index - i * (count - 1) / (n - 1)) <= 0.5 for i, index in enumerate(picked))


def test_evenly_spaced_returns_all_indices_if_too_few() -> None:
    assert evenly_spaced(3, 9).tolist() == [0, 1, 2]
    assert evenly_spaced(1, 9).tolist() == [0]


def test_image_pixels_are_scaled_by_an_integer(tmp_path: Path) -> None:
    """The saved file contains each image at its place, enlarged by repetition."""
    pixels = (random_images(2, 3, 5, 7) * 255).round() / 255
    figure = image_table(pixels, 2, title="t", note="n", xlabel="x", ylabel="y")
    save(figure, tmp_path / "table.png")
    with Image.open(tmp_path / "table.png") as file:
        written = torch.tensor(numpy.asarray(file.convert("RGB"))).long().permute(2, 0, 1)
    axes: Axes = figure.axes[0]
    box = axes.get_window_extent()
    for image, expected in zip(axes.images, pixels, strict=True):
        left, right, bottom, top = (round(edge) for edge in image.get_extent())
        scale = (right - left) // 7
        assert (right - left, bottom - top) == (7 * scale, 5 * scale)
        x, y = round(box.x0) + left, written.shape[1] - round(box.y1) + top
        enlarged = (expected * 255).round().long().repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        assert (written[:, y : y + 5 * scale, x : x + 7 * scale] - enlarged).abs().max() <= 1  # matplotlib rounds down


@pytest.mark.parametrize("n_rows", [1, 2, 3])
def test_long_ylabel_stays_in_figure_and_left_of_row_headings(n_rows: int) -> None:
    rows = ["sample", "nearest\nby pixels", "nearest\nby features"][:n_rows]
    images = random_images(2 * n_rows, 1, 7, 7)
    figure = image_table(images, 2, title="t", note="n", xlabel="x", ylabel="sample and its neighbours", rows=rows)
    [axes] = figure.axes
    figure.draw_without_rendering()
    label = axes.yaxis.label.get_window_extent()
    assert label.x0 >= 0
    assert label.y0 >= 0
    assert label.y1 <= axes.bbox.y1 + 12  # the column headings begin above
    assert label.x1 <= min(tick.get_window_extent().x0 for tick in axes.get_yticklabels())


@pytest.mark.parametrize(("n", "length"), [(2, 44), (10, 10), (26, 1), (12, 14), (100, 14), (1, 30)])
def test_axis_names_do_not_overlap_and_are_not_cut_off(n: int, length: int) -> None:
    figure, axes = curve_axes(
        "t", "n", "class", "y", names=["aquarium_fish, with WATER or without a glass"[:length]] * n
    )
    figure.draw_without_rendering()
    boxes = [tick.get_window_extent() for tick in axes.get_xticklabels()]
    assert len(boxes) == n
    label = axes.xaxis.label.get_window_extent()
    for box in (*boxes, label):
        assert figure.bbox.y0 <= box.y0
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))
    assert all(box.y0 >= label.y1 for box in boxes)


def test_saved_bytes_do_not_depend_on_matplotlibrc(tmp_path: Path) -> None:
    for make in (a_table, a_curve):
        save(make(), tmp_path / "one.png", "A caption: λ.", "What is seen")
        with rc_context(
            {"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 40, "image.interpolation": "bicubic"}
        ):
            save(make(), tmp_path / "two.png", "A caption: λ.", "What is seen")
        assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
        assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_saved_file_contains_caption_and_alt_text(tmp_path: Path) -> None:
    save(a_curve(), tmp_path / "figure.png", "A caption: λ.", "What is seen")
    with Image.open(tmp_path / "figure.png") as image:
        assert (image.info["Caption"], image.info["Alt"]) == ("A caption: λ.", "What is seen")


def test_drawing_does_not_change_rcparams(tmp_path: Path) -> None:
    before = dict(rcParams)
    save(a_table(), tmp_path / "figure.png")
    assert dict(rcParams) == before
