"""Curves show exactly the given numbers."""

from typing import get_args

import pytest
from figures.drawn import assert_legible, legend, note, points

from ddpm.diffusion.loss import Weighting
from ddpm.diffusion.posterior import Prediction
from ddpm.figures import curves
from ddpm.figures.names import run_label

LABEL = run_label("Unet", 1234, 42)
OF_PREDICTION = {  # in the notes by training step and by timestep
    "eps": ("the predicted noise", "the noise is hard to tell"),
    "x0": ("the predicted image", "the image is clearly visible"),
    "v": ("the predicted v", "v is the noise"),
    "mean": ("the predicted posterior mean", "the mean is close to the image"),
}
OF_WEIGHTING = {
    "simple": "Equation 14, the mean squared error",
    "bound": "Training: the variational bound",
    "x0": "Training: the mean squared error of the image",
    "min_snr": "weighted by the signal-to-noise ratio",
    "consistency": "the distance between the estimates",
}


def test_loss_curves_plot_given_losses_on_log_scale() -> None:
    train, evaluation = [(50, 0.9), (100, 0.3), (150, 0.25)], [(100, 0.4), (150, 0.2)]
    figure = curves.loss_curves(train, evaluation, "eps", LABEL)
    axes = figure.axes[0]
    assert [points(line) for line in axes.lines[:2]] == [train, evaluation]
    assert axes.get_yscale() == "log"
    assert legend(figure) == ["training: 0.2500 at the end", "evaluation: 0.2000 at the end"]
    axes = curves.loss_curves(train, evaluation, "v", LABEL, 0.05).axes[0]
    assert [y for _, y in points(axes.lines[2])] == [0.05, 0.05]


def test_loss_by_timestep_plots_given_losses_on_log_scale() -> None:
    losses, optimal = [(1, 0.8), (2, 0.4)], [(1, 0.7), (2, 0.1)]
    figure = curves.loss_by_timestep(losses, "eps", LABEL, optimal)
    axes = figure.axes[0]
    assert [points(line) for line in axes.lines[:2]] == [losses, optimal]
    assert axes.get_yscale() == "log"
    assert legend(figure) == ["mean over all t: 0.6000", "minimum, by the exact denoiser: 0.4000"]
    assert len(curves.loss_by_timestep(losses, "x0", LABEL).axes[0].lines) == 1


def test_loss_by_quartile_skips_empty_cells() -> None:
    rows = [
        {"step": "2", "train_loss_q1": "0.1", "train_loss_q2": "", "train_loss_q3": "0.3", "train_loss_q4": "0.4"},
        {"step": "4", "train_loss_q1": "0.01", "train_loss_q2": "", "train_loss_q3": "", "train_loss_q4": "0.04"},
    ]
    figure = curves.loss_by_quartile(rows, 50, LABEL)
    assert [points(line) for line in figure.axes[0].lines] == [
        [(2, 0.1), (4, 0.01)],
        [(2, 0.3)],
        [(2, 0.4), (4, 0.04)],
    ]
    # (t - 1) / 50 in quarters
    assert legend(figure) == ["t = 1 to 13: 0.01", "t = 26 to 38: 0.3", "t = 39 to 50: 0.04"]


@pytest.mark.parametrize("weighting", [*get_args(Weighting), "consistency"])
@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_notes_name_prediction_and_weighting_legibly(prediction: Prediction, weighting: str) -> None:
    curve = [(50, 0.9), (1234, 0.04)]
    by_step = curves.loss_curves(curve, curve, prediction, LABEL, 0.01, weighting)
    by_timestep = curves.loss_by_timestep(curve, prediction, LABEL, curve)
    words, by_timestep_words = OF_PREDICTION[prediction]
    assert words in note(by_step)
    assert OF_WEIGHTING[weighting] in note(by_step)
    assert by_timestep_words in note(by_timestep)
    of_latents = curves.loss_curves(curve, curve, prediction, LABEL, 0.01, weighting, "latent")
    assert "image" not in note(of_latents)
    for figure in (by_step, by_timestep, of_latents):
        assert_legible(figure)
