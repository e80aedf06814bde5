"""Figures of images and captions."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from matplotlib.figure import Figure
from torch import Tensor

from ddpm.captions.attributes import ATTRIBUTES, VALUES
from ddpm.figures.canvas import image_table


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
