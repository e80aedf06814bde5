"""Loss curves: by training step, by quartile of the timesteps, and by timestep."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from ddpm.diffusion.posterior import Prediction
from ddpm.figures.canvas import BLUE, FAINT, GREY, INK, ORANGE, colors, curve_axes, legend_over, plain_log_scale, styled
from ddpm.figures.reports import Curve, Rows

# What a network predicts, in words.
PREDICTED = {"eps": "noise", "x0": "image", "v": "v, a mix of noise and image", "mean": "posterior mean"}
LOSS = "loss (mean squared error)"
BY_TIMESTEP = {
    "eps": "At low noise (left) the noise is hard to tell from the image; at high noise (right) nearly all is noise.",
    "x0": "At low noise (left) the image is clearly visible; at high noise (right) it can only be guessed.",
    "v": "At low noise (left) v is the noise, hard to tell from the image; at high noise (right) v is the image.",
    "mean": "At low noise (left) the mean is close to the image; at high noise (right) to the noised image.",
}
OBJECTIVE = {
    "simple": "Equation 14, the mean squared error of the predicted {}: lower is better. "
    "The training loss fluctuates because each batch has different images, timesteps and noise.",
    "bound": "Training: the variational bound without L_T, in bits/dim. Evaluation: the mean squared error of the "
    "predicted {}, equation 14.",
    "x0": "Training: the mean squared error of the image. Evaluation: that of the predicted {}, equation 14.",
    "consistency": "Training: the distance between the estimates of the image at two timesteps. Evaluation: the mean "
    "squared error of the predicted {}, equation 14, which rises.",
    "min_snr": "Training: the squared error of the image, weighted by the signal-to-noise ratio, at most 5. "
    "Evaluation: the mean squared error of the predicted {}, equation 14.",
}


@styled
def loss_curves(
    train: Curve,
    evaluation: Curve,
    prediction: Prediction,
    label: str,
    optimum: float | None = None,
    weighting: str = "simple",
    data: str = "image",
) -> Figure:
    """Training and evaluation loss by training step.

    Args:
        train: The training loss.
        evaluation: The held-out loss of the EMA weights, always with weighting "simple".
        prediction: What the network predicts.
        label: The network's name in the title.
        optimum: The minimum of the evaluation loss over all predictors, if known.
        weighting: The weighting of the training loss.
        data: What the network denoises, such as "latent".
    """
    figure, axes = curve_axes(
        f"Loss during training: {label}",
        OBJECTIVE[weighting].format(PREDICTED[prediction]).replace("image", data),
        "training step",
        LOSS if weighting == "simple" else "loss",
    )
    _plot(axes, train, label=f"training: {train[-1][1]:.4f} at the end", color=BLUE, linewidth=1.2)
    words = f"evaluation: {evaluation[-1][1]:.4f} at the end"
    _plot(axes, evaluation, label=words, color=ORANGE, linewidth=2, marker="o", markersize=4)
    if optimum is not None:
        axes.axhline(optimum, color=INK, linewidth=1.5, linestyle=":", label=f"minimum: {optimum:.4f}")
    _finish(axes, prediction)
    _training_steps(axes, train[-1][0])
    return figure


@styled
def loss_by_timestep(losses: Curve, prediction: Prediction, label: str, optimal: Curve = ()) -> Figure:
    """Evaluation loss at each number of noise steps t, from 1 to T.

    Args:
        losses: (t, loss).
        prediction: What the network predicts.
        label: The network's name in the title.
        optimal: The losses of the Bayes-optimal predictor, a lower bound for every network. Empty if unknown.
    """
    figure, axes = curve_axes(
        f"Loss by timestep: {label}",
        BY_TIMESTEP[prediction],
        "number of noise steps t",
        LOSS,
    )
    _plot(axes, losses, label=f"mean over all t: {_mean(losses):.4f}", color=BLUE, linewidth=2)
    if optimal:
        words = f"minimum, by the exact denoiser: {_mean(optimal):.4f}"
        _plot(axes, optimal, label=words, color=INK, linewidth=1.5, linestyle=":")
    _finish(axes, prediction)
    axes.set_xlim(0, 1.01 * losses[-1][0])
    return figure


@styled
def loss_by_quartile(losses: Rows, max_steps: int, label: str) -> Figure:
    """The training loss of each quartile of the timesteps, by training step.

    Args:
        losses: Rows of loss_by_quartile.csv. Empty cells are skipped.
        max_steps: T.
        label: The network's name in the title.
    """
    figure, axes = curve_axes(
        f"Loss by quartile of the timesteps: {label}",
        "The training loss, grouped by the quarter of 1..T that an image's t falls into. The average, which training "
        "minimises, hides how much they differ.",
        "training step",
        "training loss",
    )
    for quartile, color in enumerate(colors(4)):
        low, high = (-(-max_steps * end // 4) for end in (quartile, quartile + 1))
        column = f"train_loss_q{quartile + 1}"
        curve = [(int(row["step"]), float(row[column])) for row in losses if row[column]]
        if curve:
            _plot(axes, curve, label=f"t = {low + 1} to {high}: {curve[-1][1]:.3g}", color=color, linewidth=1.5)
    legend_over(axes, ncols=4)
    plain_log_scale(axes)
    _training_steps(axes, int(losses[-1]["step"]))
    return figure


def _plot(axes: Axes, curve: Curve, **look: Any) -> None:
    x, y = zip(*curve, strict=True)
    axes.plot(x, y, **look)


def _mean(curve: Curve) -> float:
    return sum(value for _, value in curve) / len(curve)


def _training_steps(axes: Axes, last: int) -> None:
    """Scale and format the x axis for training steps."""
    axes.set_xlim(0, 1.01 * last)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _finish(axes: Axes, prediction: Prediction) -> None:
    """Add a legend, a log scale, and for "eps" the loss of always predicting 0, which is 1."""
    legend_over(axes, ncols=3)
    plain_log_scale(axes)
    if prediction != "eps":
        return
    axes.set_ylim(top=max(1.6, axes.get_ylim()[1]))
    axes.axhline(1, color=GREY, linestyle="--", linewidth=1)
    axes.annotate(
        "always predicting 0", (0.995, 1), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=FAINT
    )
