"""The loss of a door's network: its curves, and what the figure says about the network."""

from pathlib import Path

import pytest
from figures.drawn import note, points

from ddpm.figures.losses import load_losses
from ddpm.networks.checkpoint import load_model, save_model


def curve(path):
    return [tuple(map(float, line.split(","))) for line in path.read_text().splitlines()[1:]]


@pytest.mark.parametrize(
    ("prediction", "weighting", "said"),
    [
        ("x0", "simple", "the mean squared error of the predicted image: lower is better"),
        ("eps", "simple", "the mean squared error of the predicted noise: lower is better"),
        ("v", "min_snr", "weighted by the signal-to-noise ratio, at most 5"),
    ],
)
def test_loss_figure_plots_both_curves_and_names_objective(prediction, weighting, said, copied):
    path = Path("models/tiny.safetensors")
    model = load_model(path)
    model.prediction = prediction
    save_model(path, model, {"weighting": weighting})
    figure = load_losses("tiny").drawn("a network")
    [axes] = figure.axes
    expected = [curve(copied / f"reports/train_tiny/{name}.csv") for name in ("loss", "eval_loss")]
    assert [points(line) for line in axes.lines[:2]] == expected
    assert said in note(figure)
