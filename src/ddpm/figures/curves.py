"""The figures that are made of numbers: the loss as training goes on, and by number of noise steps."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter, ScalarFormatter, StrMethodFormatter

from ddpm.diffusion.posterior import Prediction
from ddpm.figures.canvas import (
    BLUE,
    FAINT,
    GREY,
    INK,
    ORANGE,
    PREDICTED,
    SERIES,
    curve_axes,
    curve_panels,
    legend_above,
    styled,
)

Curve = Sequence[tuple[int, float]]
LOSS = "loss (mean squared error)"
BY_TIMESTEP = {
    "eps": "With little noise (left) it is hard to tell noise from image; with much (right), nearly all is noise.",
    "x0": "With little noise (left) the image is plain to see; with much (right) it can only be guessed.",
    "v": "With little noise (left) v is the noise, hard to tell from the image; with much (right), the image itself.",
    "mean": "With little noise (left) the mean is nearly the image; with much (right), nearly the noised image.",
}
OBJECTIVE = {
    "simple": "Equation 14, the mean squared error of the predicted {}: lower is better. "
    "The training loss jumps about because each batch meets other noise.",
    "bound": "Training: the variational bound without L_T, in bits/dim. Evaluation: the mean squared error of the "
    "predicted {}, equation 14.",
    "x0": "Training: the mean squared error of the image. Evaluation: that of the predicted {}, equation 14.",
    "min_snr": "Training: the squared error of the image, times the signal-to-noise ratio up to 5. Evaluation: the "
    "mean squared error of the predicted {}, equation 14.",
}


@styled
def loss_curves(
    train: Curve,
    evaluation: Curve,
    prediction: Prediction,
    label: str,
    optimum: float | None = None,
    weighting: str = "simple",
) -> Figure:
    """Training and evaluation loss against training step, of a network that predicts `prediction`.

    weighting: of the training loss, as `training_loss` has it; the evaluation's is always "simple".
    optimum: the least evaluation loss that any network can have, where it is known.
    """
    figure, axes = curve_axes(
        f"Loss during training: {label}",
        OBJECTIVE[weighting].format(PREDICTED[prediction]),
        "training step",
        LOSS if weighting == "simple" else "loss",
    )
    _plot(axes, train, label=f"training: {train[-1][1]:.4f} at the end", color=BLUE, linewidth=1.2)
    words = f"evaluation: {evaluation[-1][1]:.4f} at the end"
    _plot(axes, evaluation, label=words, color=ORANGE, linewidth=2, marker="o", markersize=4)
    if optimum is not None:
        axes.axhline(optimum, color=INK, linewidth=1.5, linestyle=":", label=f"least possible: {optimum:.4f}")
    _finish(axes, prediction)
    axes.set_xlim(0, 1.01 * train[-1][0])
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    return figure


@styled
def loss_by_timestep(losses: Curve, prediction: Prediction, label: str, optimal: Curve = ()) -> Figure:
    """Evaluation loss at each number of noise steps t, from 1 to T.

    optimal: the same for the Bayes-optimal predictor, where it is known: no network can go below.
    """
    figure, axes = curve_axes(
        f"Loss by timestep: {label}",
        BY_TIMESTEP[prediction],
        "number of noise steps t",
        LOSS,
    )
    _plot(axes, losses, label=f"mean over all t: {_mean(losses):.4f}", color=BLUE, linewidth=2)
    if optimal:
        words = f"least possible, by the exact denoiser: {_mean(optimal):.4f}"
        _plot(axes, optimal, label=words, color=INK, linewidth=1.5, linestyle=":")
    _finish(axes, prediction)
    axes.set_xlim(0, 1.01 * losses[-1][0])
    return figure


@styled
def loss_by_quartile(losses: Sequence[Mapping[str, str]], n_steps: int, label: str) -> Figure:
    """The training loss of each quarter of the noise steps 1..n_steps, against training step.

    losses: rows of loss_by_quartile.csv; an empty cell is left out.
    """
    figure, axes = curve_axes(
        f"Loss by quarter of the noise steps: {label}",
        "The training loss, split by the quarter of the noise steps t that an image fell into. Their average, which "
        "training lowers, hides how far they lie apart.",
        "training step",
        "training loss",
    )
    for quartile, color in zip(range(4), SERIES, strict=False):
        low, high = (-(-n_steps * end // 4) for end in (quartile, quartile + 1))
        column = f"train_loss_q{quartile + 1}"
        curve = [(int(row["step"]), float(row[column])) for row in losses if row[column]]
        if curve:
            _plot(axes, curve, label=f"t = {low + 1} to {high}: {curve[-1][1]:.3g}", color=color, linewidth=1.5)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, borderaxespad=0.2)
    _plain_log_scale(axes)
    axes.set_xlim(0, 1.01 * int(losses[-1]["step"]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    return figure


@styled
def sampler_error(
    errors: Mapping[str, Mapping[str, Curve]],
    floor: float,
    network: tuple[str, int, float],
    network_floor: float,
    label: str,
) -> Figure:
    """How far each sampler is from the gradient data when it is driven by the exact denoiser, against T.

    errors: per schedule and sampler (T, Wasserstein-1 distance of corner colours from uniform, in levels); floor: the
    mean of the same for as many draws from the data; network: schedule, T and error of the trained model's samples,
    with a floor of their own.
    """
    figure, panels = curve_panels(
        f"Error of the samplers: {label}",
        "Lines: each sampler takes every step of its schedule with the exact denoiser, so all error is the sampler's. "
        "It falls to chance (as many draws from the data) as T grows. The linear schedule (1e-4 to 0.02) needs more "
        "steps: at few its last step is not yet the pure noise that sampling starts from. The star has the network's "
        "error on top.",
        "number of steps T",
        "error of corner colours (levels of 255)",
        [schedule.replace("_", " ") for schedule in errors],
    )
    words = f"network (chance: {network_floor:.2f})"
    ticks = sorted({x for curves in errors.values() for curve in curves.values() for x, _ in curve} | {network[1]})
    for axes, (schedule, curves) in zip(panels, errors.items(), strict=True):
        for (sampler, curve), color in zip(curves.items(), SERIES, strict=False):
            _plot(axes, curve, label=sampler, color=color, linewidth=1.8, marker="o", markersize=4)
        if schedule == network[0]:
            axes.plot(*network[1:], label=words, color=INK, marker="*", markersize=14, linestyle="none")
        axes.axhline(floor, color=FAINT, linestyle="--", linewidth=1, label=f"chance: {floor:.2f}")
        axes.set_xscale("log")
        axes.set_xticks(ticks)
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(ScalarFormatter())
    _plain_log_scale(panels[0])
    legend_above(figure, panels, ncols=4)
    return figure


@styled
def x0_quality(
    rows: Sequence[Mapping[str, str]],
    floor: float,
    n_samples: int,
    n_steps: int,
    reference: str,
    extractor: str,
    label: str,
) -> Figure:
    """Figure 10: the Frechet distance of the x0 estimates at some moments of `n_samples` chains of `n_steps` steps.

    rows: of x0_quality.csv, one a moment; floor: of as many real images; reference: the split that both are held to, by
    the features of the classifier whose hash is `extractor`.
    """
    figure, axes = curve_axes(
        f"Figure 10 of Ho et al. 2020: {label}",
        f"fid_fashion_cnn of what the network takes for the finished image (equation 15), for {n_samples:,} chains of "
        f"{n_steps} steps, against the {reference} split (extractor {extractor}). Band: where 95 % of other sets of "
        "that size would lie. Dashed: as many real images.",
        "noise steps left, t",
        "fid_fashion_cnn",
    )
    t, value, low, high = ([float(row[key]) for row in rows] for key in ("num_steps", "fid_fashion_cnn", "low", "high"))
    axes.plot(t, value, label=f"x0 estimates: {value[-1]:.3g} at the end", color=BLUE, linewidth=2, marker="o")
    axes.fill_between(t, low, high, color=BLUE, alpha=0.2, linewidth=0)
    axes.axhline(floor, color=FAINT, linestyle="--", linewidth=1, label=f"real images: {floor:.3g}")
    _plain_log_scale(axes)
    axes.invert_xaxis()
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
    return figure


@styled
def class_histogram(rows: Sequence[Mapping[str, str]], n_samples: int, reference: str, label: str) -> Figure:
    """Share of each class among the samples and among real images, as the classifier sees both.

    rows: of class_histogram.csv, one a class; reference: the split of the real images.
    """
    figure, axes = curve_axes(
        f"Classes of the samples: {label}",
        f"What a classifier, trained on real images, sees in {n_samples:,} samples and in the real images that they "
        f"are scored against, the {reference} split. Lines: where 95 % of other sets of as many samples would lie.",
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


def _mean(curve: Curve) -> float:
    return sum(value for _, value in curve) / len(curve)


def _plain_log_scale(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _finish(axes: Axes, prediction: Prediction) -> None:
    """A legend above, a log scale with plain numbers, and the score of answering 0 where it is known: noise has 1."""
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0.2)
    _plain_log_scale(axes)
    if prediction != "eps":
        return
    axes.set_ylim(top=max(1.6, axes.get_ylim()[1]))
    axes.axhline(1, color=GREY, linestyle="--", linewidth=1)
    axes.annotate(
        "always predicting 0", (0.995, 1), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=FAINT
    )
