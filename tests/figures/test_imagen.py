"""Figures of Imagen: the position of each image."""

import json

import numpy
import pytest
import torch
from figures.drawn import points
from PIL import Image

from ddpm.figures.canvas import save
from ddpm.figures.imagen import TOPIC, Imagen, Render
from ddpm.figures.losses import Losses


def means(figure, path):
    """The mean grey of each image in a figure, in reading order."""
    save(figure, path)
    with Image.open(path) as picture:
        boxes = json.loads(picture.info["Images"])
        grey = torch.from_numpy(numpy.array(picture.convert("L"))) / 255
    return [grey[top + 3 : bottom - 3, left + 3 : right - 3].mean().item() for left, top, right, bottom in boxes]


def flat(size, *greys):
    return torch.tensor(greys)[:, None, None, None].expand(-1, 1, size, size)


@pytest.fixture
def inputs():
    """Two clippings, three scales, two captions, two samples each: 24 greys in this order."""
    guided = (torch.arange(24) / 24).reshape(2, 3, 2, 2, 1, 1, 1).expand(2, 3, 2, 2, 1, 8, 8)
    low, noised, samples = flat(4, 0.1, 0.2), flat(4, 0.3, 0.4), flat(8, 0.5, 0.6)
    texts, params = ["a dress", "a bag"], Render(n_columns=2, n_captions=1)
    curves = [[(1, 1.0), (2, i / 8)] for i in range(1, 5)]
    losses = {"base": Losses(*curves[:2], "v", "simple"), "super": Losses(*curves[2:], "x0", "simple")}
    return Imagen(params, guided, ["dynamic", "none"], [1.0, 2.0, 4.0], texts, low, noised, samples, 0.25, losses)


def labels(axes):
    return [label.get_text() for label in axes]


@pytest.mark.parametrize(
    ("name", "expected", "rows"),
    [
        (
            "by_caption",
            [(4 * j + 2 * i + k) / 24 for i in range(2) for j in range(3) for k in range(2)],
            ["a dress", "a bag"],
        ),
        ("by_clipping", [(12 * i + 4 * j) / 24 for i in range(2) for j in range(3)], ["dynamic", "none"]),
        ("cascade", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], ["4x4", "level 0.25", "8x8"]),
    ],
)
def test_figures_place_every_image_and_row_heading(name, expected, rows, inputs, tmp_path):
    figure = TOPIC.figures[name].draw(inputs)
    found = means(figure, tmp_path / "a.png")
    assert all(abs(a - b) < 0.01 for a, b in zip(found, expected, strict=True))
    assert labels(figure.axes[0].get_yticklabels()) == rows


def test_caption_states_the_clipping(inputs):
    assert TOPIC.figures["by_caption"].caption.format(inputs=inputs).endswith("clipping: dynamic.")


@pytest.mark.parametrize(("name", "train", "evaluation"), [("base_loss", 0.125, 0.25), ("super_loss", 0.375, 0.5)])
def test_loss_figures_plot_training_and_evaluation_loss(name, train, evaluation, inputs):
    [axes] = TOPIC.figures[name].draw(inputs).axes
    assert [points(line) for line in axes.lines] == [[(1, 1.0), (2, last)] for last in (train, evaluation)]
