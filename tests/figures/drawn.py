"""Helpers for figure tests: which images, points and words a figure shows, and where."""

import numpy
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from torch import Tensor


def random_images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def signed(pixels: Tensor) -> Tensor:
    return 2 * pixels - 1


def shown(figure: Figure) -> list[list[Tensor]]:
    """The images of a figure as rows of (c, h, w) tensors, ordered by their extents."""
    placed: dict[float, dict[float, Tensor]] = {}
    for image in figure.axes[0].images:
        left, _, _, top = image.get_extent()
        array = torch.tensor(numpy.asarray(image.get_array()))
        array = array.permute(2, 0, 1) if array.ndim == 3 else array[None]
        placed.setdefault(top, {})[left] = array
    return [[row[left] for left in sorted(row)] for _, row in sorted(placed.items())]


def points(line: Line2D) -> list[tuple[float, float]]:
    return [(x, y) for x, y in numpy.asarray(line.get_xydata()).tolist()]


def assert_shows(figure: Figure, rows: list[list[Tensor]]) -> None:
    """Equal up to the rounding of [0, 1] to [-1, 1] and back in float32."""
    got = shown(figure)
    assert [len(row) for row in got] == [len(row) for row in rows]
    for got_row, row in zip(got, rows, strict=True):
        for got_image, image in zip(got_row, row, strict=True):
            assert got_image.shape == image.shape
            assert (got_image - image).abs().max() <= 1e-6


def legend(figure: Figure) -> list[str]:
    """The texts of all legends of a figure."""
    legends = [*figure.legends, *(found for axes in figure.axes if (found := axes.get_legend()))]
    return [text.get_text() for found in legends for text in found.get_texts()]


def note(figure: Figure) -> str:
    """The text under the title of a figure."""
    return figure.texts[1].get_text().replace("\n", " ")


def columns(figure: Figure) -> list[str]:
    """Column headings of an image table."""
    return [text.get_text() for text in figure.axes[0].get_xticklabels()]


def rows(figure: Figure) -> list[str]:
    """Row headings of an image table."""
    return [text.get_text() for text in figure.axes[0].get_yticklabels()]


def assert_legible(figure: Figure) -> None:
    """No texts overlap or leave the figure."""
    figure.draw_without_rendering()
    found = _texts(figure)
    boxes = [text.get_window_extent() for text in found]
    for i, box in enumerate(boxes):
        assert min(box.x0, box.y0) >= 0, found[i]
        assert box.x1 <= figure.bbox.x1, found[i]
        assert box.y1 <= figure.bbox.y1, found[i]
        # Boxes may touch by a dot: they are rounded outwards.
        assert not any(box.padded(-1).overlaps(other.padded(-1)) for other in boxes[:i]), found[i]


def _texts(figure: Figure) -> list[Text]:
    """All visible texts."""
    found: list[Text] = [*figure.texts]
    for axes in figure.axes:
        (low, high), (bottom, top) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
        found += [axes.xaxis.label, axes.yaxis.label]
        found += [text for text in axes.get_xticklabels() if low <= text.get_position()[0] <= high]
        found += [text for text in axes.get_yticklabels() if bottom <= text.get_position()[1] <= top]
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
    found += [text for legend in legends if legend for text in legend.get_texts()]
    return [text for text in found if text.get_text().strip() and text.get_visible()]
