"""Figures of images with captions."""

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
    """The first images to which the rules assign each value, one row per value.

    Args:
        images: Images in [0, 1].
        values: Their attribute values, as returned by `captions.attributes.measured`.
        n_columns: Images per row. Shorter rows are padded with black.
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
        note="The first training images to which the rules assign each value. Images between two values get none.",
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
        samples: Samples in [0, 1].
        captions: One per row.
        scales: One per group of columns.
    """
    n = samples.shape[2]
    return image_table(
        samples.flatten(0, 2),
        n * len(scales),
        title="Captions and guidance",
        note="The first samples from pure noise, not cherry-picked. The noise is the same at each scale.",
        xlabel="guidance scale",
        ylabel="caption",
        columns=[f"{scale:g}" if i == 0 else "" for scale in scales for i in range(n)],
        rows=captions,
        column_breaks=range(n, n * len(scales), n),
    )


def holes_table(filled: Mapping[str, Tensor], n_columns: int = 12) -> Figure:
    """Images, the same images with a hole, and the hole filled by each method, one column per image.

    Args:
        filled: "images" (8-bit), "holes", and the images filled by each method, "trained" and "replaced" (8-bit).
        n_columns: Number of images to show.
    """
    images, holes = (filled[name][:n_columns] for name in ("images", "holes"))
    masked = torch.where(holes, 0.45, from_uint8(images))
    rows = {"original": from_uint8(images), "hole": masked}
    rows |= {name: from_uint8(filled[name][:n_columns]) for name in ("trained", "replaced")}
    return image_table(
        torch.cat(list(rows.values())),
        len(images),
        title="Inpainting",
        note="The first held-out images. Third row: filled by the network that was trained to inpaint. Last row: by "
        "the base model, with the known pixels replaced at each step.",
        xlabel="held-out images",
        ylabel="",
        rows=list(rows),
    )


@styled
def frontier(rows: Rows, names: Mapping[str, str]) -> Figure:
    """Precision against recall, one curve per method, labelled with guidance scales.

    Args:
        rows: Rows of reports/sweep/sweep.csv.
        names: The legend entry of each method.
    """
    note = "Both in the classifier's features; up and to the right is better. The numbers are guidance scales."
    figure, axes = curve_axes("The trade-off of guidance", note, "recall", "precision")
    methods = dict.fromkeys(row["method"] for row in rows)
    for method, color in zip(methods, colors(len(methods)), strict=True):
        points = [row for row in rows if row["method"] == method]
        recall, precision = ([float(row[name]) for row in points] for name in ("recall", "precision"))
        axes.plot(recall, precision, "o-", color=color, label=names[method])
        for row, x, y in zip(points, recall, precision, strict=True):
            axes.annotate(f"{float(row['scale']):g}", (x, y), (5, 5), textcoords="offset points", color=color)
    legend_over(axes, len(methods))
    return figure
