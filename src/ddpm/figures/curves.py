"""The figures that are made of numbers: the loss as training goes on, and by number of noise steps."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter, StrMethodFormatter

from ddpm.diffusion.posterior import Prediction
from ddpm.figures.canvas import BLUE, FAINT, GREY, ORANGE, curve_axes, styled

Curve = Sequence[tuple[int, float]]
LOSS = "loss (mean squared error)"
PREDICTED = {"eps": "noise", "x0": "image", "v": "v, a mixture of noise and image"}
BY_TIMESTEP = {
    "eps": "With little noise (left) it is hard to tell noise from image; with much (right), nearly all is noise.",
    "x0": "With little noise (left) the image is plain to see; with much (right) it can only be guessed.",
    "v": "With little noise (left) v is the noise, hard to tell from the image; with much (right), the image itself.",
}


@styled
def loss_curves(train: Curve, evaluation: Curve, prediction: Prediction, label: str) -> Figure:
    """Training and evaluation loss against training step, of a network that predicts `prediction`."""
    figure, axes = curve_axes(
        f"Loss during training: {label}",
        f"Equation 14, the mean squared error of the predicted {PREDICTED[prediction]}: lower is better. "
        "The training loss jumps about because each batch meets other noise.",
        "training step",
        LOSS,
    )
    _plot(axes, train, label=f"training: {train[-1][1]:.4f} at the end", color=BLUE, linewidth=1.2)
    words = f"evaluation: {evaluation[-1][1]:.4f} at the end"
    _plot(axes, evaluation, label=words, color=ORANGE, linewidth=2, marker="o", markersize=4)
    _finish(axes, prediction)
    axes.set_xlim(0, 1.01 * train[-1][0])
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    return figure


@styled
def loss_by_timestep(losses: Curve, prediction: Prediction, label: str) -> Figure:
    """Evaluation loss at each number of noise steps t, from 1 to T."""
    figure, axes = curve_axes(
        f"Loss by timestep: {label}",
        BY_TIMESTEP[prediction],
        "number of noise steps t",
        LOSS,
    )
    mean = sum(loss for _, loss in losses) / len(losses)
    _plot(axes, losses, label=f"mean over all t: {mean:.4f}", color=BLUE, linewidth=2)
    _finish(axes, prediction)
    axes.set_xlim(0, 1.01 * losses[-1][0])
    return figure


@styled
def class_histogram(rows: Sequence[Mapping[str, str]], label: str) -> Figure:
    """Share of each class among the samples and among real images, as the classifier sees both.

    rows: of class_histogram.csv, one a class.
    """
    figure, axes = curve_axes(
        f"Classes of the samples: {label}",
        "What a classifier, trained on real images, sees in the samples and in the real images that they are scored "
        "against. Lines: where 95 % of other sets of as many samples would lie.",
        "class",
        "share of the images",
    )
    value, low, high, real = ([float(row[key]) for row in rows] for key in ("samples", "low", "high", "reference_seen"))
    places = range(len(rows))
    errors = [[v - at for v, at in zip(value, low, strict=True)], [at - v for v, at in zip(value, high, strict=True)]]
    axes.bar([i - 0.2 for i in places], value, 0.4, yerr=errors, label="samples", color=BLUE, ecolor=FAINT)
    axes.bar([i + 0.2 for i in places], real, 0.4, label="real images", color=ORANGE)
    axes.set_xticks(places, [row["class"] for row in rows])
    axes.grid(False, axis="x")
    axes.set_axisbelow(True)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
    return figure


def _plot(axes: Axes, curve: Curve, **look: Any) -> None:
    x, y = zip(*curve, strict=True)
    axes.plot(x, y, **look)


def _finish(axes: Axes, prediction: Prediction) -> None:
    """A legend above, a log scale with plain numbers, and the score of answering 0 where it is known: noise has 1."""
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    if prediction != "eps":
        return
    axes.set_ylim(top=max(1.6, axes.get_ylim()[1]))
    axes.axhline(1, color=GREY, linestyle="--", linewidth=1)
    axes.annotate(
        "always predicting 0", (0.995, 1), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=FAINT
    )
