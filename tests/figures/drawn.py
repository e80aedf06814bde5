"""What the tests of figures ask of one: which images and points it shows, and where."""

import numpy
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor


def random_images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def signed(pixels: Tensor) -> Tensor:
    return 2 * pixels - 1


def shown(figure: Figure) -> list[list[Tensor]]:
    """The images of a figure as rows of (c, h, w) tensors, by where their extents put them on the axes."""
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
