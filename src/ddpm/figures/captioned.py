"""Figures of images and captions."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int64
from matplotlib.figure import Figure
from torch import Tensor

from ddpm.captions.attributes import ATTRIBUTES, VALUES
from ddpm.figures.canvas import colors, curve_axes, image_table, legend_over, styled
from ddpm.figures.reports import Rows
from ddpm.images import from_uint8


def attribute_table(images: Float[Tensor, "n c h w"], values: Int64[Tensor, "n attributes"], n_columns: int) -> Figure:
    """The first images that the rules give each value, a row a value.

    Args:
        images: In [0, 1].
        values: `captions.attributes.measured` of them.
        n_columns: Images a row; rows with fewer end in black.
    """
    rows = []
    for number in range(len(VALUES)):
        column, value = divmod(number, 2)
        found = images[values[:, column] == value + 1][:n_columns]
        rows += [found, torch.zeros(n_columns - len(found), *images.shape[1:])]
    return image_table(
        torch.cat(rows),
        n_columns,
        title="Attributes",
        note="The first training images that the rules give each value. Images between two values have none.",
        xlabel="training images",
        ylabel="value",
        rows=[f"{name}: {value}" for name, pair in ATTRIBUTES.items() for value in pair],
        row_breaks=range(2, len(VALUES), 2),
    )


def caption_grid(
    samples: Float[Tensor, "captions scales n c h w"], captions: Sequence[str], scales: Sequence[float]
) -> Figure:
    """Samples by caption and guidance scale.

    Args:
        samples: In [0, 1].
        captions: A row each.
        scales: A group of columns each.
    """
    n = samples.shape[2]
    return image_table(
        samples.flatten(0, 2),
        n * len(scales),
        title="Captions and guidance",
        note="Samples from pure noise, the first ones, not selected. More guidance makes them more alike and truer to "
        "their caption.",
        xlabel="guidance scale",
        ylabel="caption",
        columns=[f"{scale:g}" if i == 0 else "" for scale in scales for i in range(n)],
        rows=captions,
        column_breaks=range(n, n * len(scales), n),
    )


def holes_table(filled: Mapping[str, Tensor], n_columns: int = 12) -> Figure:
    """Images, the same with a hole, and the hole filled by each method, a column an image.

    Args:
        filled: 8-bit "images", "holes", and the images as each method left them.
        n_columns: How many images are shown.
    """
    images, holes = (filled[name][:n_columns] for name in ("images", "holes"))
    masked = torch.where(holes, 0.45, from_uint8(images))
    rows = {"original": from_uint8(images), "hole": masked}
    rows |= {name: from_uint8(filled[name][:n_columns]) for name in ("trained", "replaced")}
    return image_table(
        torch.cat(list(rows.values())),
        len(images),
        title="Inpainting",
        note="Held-out images, the first ones. Third row: by the network that was trained to fill holes. Last row: by "
        "the base model, with the known pixels replaced at each step.",
        xlabel="held-out images",
        ylabel="",
        rows=list(rows),
    )


@styled
def frontier(rows: Rows, names: Mapping[str, str]) -> Figure:
    """Precision by recall, a curve for each method, with its guidance scales.

    Args:
        rows: Of reports/sweep/sweep.csv.
        names: What the methods are called.
    """
    note = "Both by the classifier's features; up and to the right is better. The numbers are guidance scales."
    figure, axes = curve_axes("What guidance trades", note, "recall", "precision")
    methods = dict.fromkeys(row["method"] for row in rows)
    for method, color in zip(methods, colors(len(methods)), strict=True):
        points = [row for row in rows if row["method"] == method]
        recall, precision = ([float(row[name]) for row in points] for name in ("recall", "precision"))
        axes.plot(recall, precision, "o-", color=color, label=names[method])
        for row, x, y in zip(points, recall, precision, strict=True):
            axes.annotate(f"{float(row['scale']):g}", (x, y), (5, 5), textcoords="offset points", color=color)
    legend_over(axes, len(methods))
    return figure
