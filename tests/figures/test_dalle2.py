"""Figures of DALL-E 2: the position of each image."""

import json

import numpy
import pytest
import torch
from figures.drawn import points
from PIL import Image

from ddpm.figures.canvas import save
from ddpm.figures.dalle2 import TOPIC, Dalle2, Render
from ddpm.figures.losses import Losses


def means(figure, path):
    """The mean grey of each image in a figure, in reading order."""
    save(figure, path)
    with Image.open(path) as picture:
        boxes = json.loads(picture.info["Images"])
        grey = torch.from_numpy(numpy.array(picture.convert("L"))) / 255
    return [grey[top + 3 : bottom - 3, left + 3 : right - 3].mean().item() for left, top, right, bottom in boxes]


def flat(*shape):
    """Images of different greys, in order."""
    n = torch.tensor(shape).prod().item()
    return (torch.arange(n) / n).reshape(*shape, 1, 1, 1).expand(*shape, 1, 8, 8)


@pytest.fixture
def inputs():
    varied = {
        "originals": flat(4),
        "variations": flat(4, 2),
        "between": flat(2, 3),
    }
    edited = {"dark to light": flat(3, 2), "dark to light/of": flat(3)}
    rows = [
        {"method": method, "scale": str(scale), "recall": str(scale / n), "precision": str(1 - scale / n)}
        for method, n in (("prior", 4), ("none", 8))
        for scale in (1.0, 2.0)
    ]
    texts, curves = ["a dress", "a bag"], [[(1, 1.0), (2, i / 8)] for i in range(1, 5)]
    losses = {"prior": Losses(*curves[:2], "x0", "simple"), "decoder": Losses(*curves[2:], "v", "simple")}
    return Dalle2(
        Render(n_columns=2),
        texts,
        [1.0, 2.0],
        flat(2, 2, 2),
        flat(2, 3, 2),
        varied,
        edited,
        [0.0, 0.5],
        rows,
        losses,
    )


def labels(axes):
    return [label.get_text() for label in axes]


@pytest.mark.parametrize(
    ("name", "expected", "rows", "columns"),
    [
        ("captions", [i / 8 for i in range(8)], ["a dress", "a bag"], ["1", "", "2", ""]),
        (
            "signals",
            [i / 12 for i in range(12)],
            ["a dress", "a bag"],
            ["prior's embedding", "", "text embedding", "", "caption only", ""],
        ),
        ("variations", [0, 1 / 4, 0, 2 / 8, 1 / 8, 3 / 8], ["original", "variation 1", "variation 2"], []),
        (
            "between",
            [0, 0, 1 / 6, 2 / 6, 1 / 4, 2 / 4, 3 / 6, 4 / 6, 5 / 6, 3 / 4],
            [],
            ["original", "0", "0.5", "1", "original"],
        ),
        ("edits", [0, 1 / 3, 0, 2 / 6, 1 / 6, 3 / 6], ["dark to light, original", "0", "0.5"], []),
    ],
)
def test_figures_place_every_image_and_heading(name, expected, rows, columns, inputs, tmp_path):
    figure = TOPIC.figures[name].draw(inputs)
    found = means(figure, tmp_path / "a.png")
    assert all(abs(a - b) < 0.01 for a, b in zip(found, expected, strict=True))
    axes = figure.axes[0]
    assert (labels(axes.get_yticklabels()), labels(axes.get_xticklabels())) == (rows, columns)


def test_guidance_figure_labels_curves_by_decoder_input(inputs):
    [axes] = TOPIC.figures["guidance"].draw(inputs).axes
    assert labels(axes.get_legend().get_texts()) == ["prior's embedding", "caption only"]
    curves = [[(0.25, 0.75), (0.5, 0.5)], [(0.125, 0.875), (0.25, 0.75)]]
    assert [points(line) for line in axes.lines] == curves


@pytest.mark.parametrize(("name", "train", "evaluation"), [("prior_loss", 0.125, 0.25), ("decoder_loss", 0.375, 0.5)])
def test_loss_figures_plot_training_and_evaluation_loss(name, train, evaluation, inputs):
    [axes] = TOPIC.figures[name].draw(inputs).axes
    assert [points(line) for line in axes.lines] == [[(1, 1.0), (2, last)] for last in (train, evaluation)]
    assert labels(axes.get_legend().get_texts()) == [
        f"training: {train:.4f} at the end",
        f"evaluation: {evaluation:.4f} at the end",
    ]
