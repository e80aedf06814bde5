"""The exact limit of the tiny model: the samplers' own error, and the variational bound."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from ddpm.diffusion.model import schedule_of
from ddpm.figures.canvas import (
    BLUE,
    FAINT,
    INK,
    ORANGE,
    SERIES,
    colors,
    curve_panels,
    legend_above,
    plain_log_scale,
)
from ddpm.figures.names import label_of
from ddpm.figures.reports import Curve, Rows, read_json, read_rows
from ddpm.figures.topic import TOPICS, Topic
from ddpm.networks.checkpoint import load_model
from ddpm.run.stage import StageRun

MODEL, METRICS = "models/tiny.safetensors", "reports/evaluate_tiny/metrics.json"
TINY_BOUND = "reports/evaluate_tiny/bound.csv"
STUDY = "reports/study_samplers/metrics.json"
ERRORS, EXACT_BOUND = "reports/study_samplers/sampler_error.csv", "reports/study_samplers/bound.csv"
PARTS = {
    "L_T": (SERIES[2], r"$L_T$: pure noise to $x_T$"),
    "L_between": (ORANGE, r"$L_{T-1}$ to $L_1$: $x_T$ to $x_1$"),
    "L_0": (BLUE, r"$L_0$: $x_1$ to pixels"),
}
BAR = 0.36


@dataclass(frozen=True)
class Inputs:
    """Results of stages study_samplers and evaluate_tiny.

    Attributes:
        label: The tiny model's name in titles.
        schedule: The name of its noise schedule.
        max_steps: T of its noise schedule.
        errors: By schedule and sampler: (T, error), where the error is the Wasserstein-1 distance of the corner colours
            of the exact denoiser's samples from uniform, in levels of 255.
        floor: The mean error of an equal number of images of the data.
        network_error: The error of the tiny model's samples.
        network_floor: The same for the number of samples behind `network_error`.
        exact_bound: Rows of the exact denoiser's bound, by schedule, T and variance.
        tiny_bound: The same for the tiny model, on its own schedule.
        entropy: The entropy of the data, in bits/dim.
    """

    label: str
    schedule: str
    max_steps: int
    errors: Mapping[str, Mapping[str, Curve]]
    floor: float
    network_error: float
    network_floor: float
    exact_bound: Rows
    tiny_bound: Rows
    entropy: float


def load(_: StageRun) -> Inputs:
    """Read the outputs of stages study_samplers and evaluate_tiny."""
    model, metrics, study = load_model(Path(MODEL)), read_json(Path(METRICS)), read_json(Path(STUDY))
    compared = read_rows(Path(TINY_BOUND))
    exact = [row for row in compared if row["denoiser"] == "exact"]  # on the tiny model's schedule
    cells = {
        (row["schedule"], row["max_steps"], row["variance"]): row for row in (*read_rows(Path(EXACT_BOUND)), *exact)
    }
    errors: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in read_rows(Path(ERRORS)):
        curve = errors.setdefault(row["schedule"], {}).setdefault(row["sampler"], [])
        curve.append((int(row["max_steps"]), float(row["corner_error"])))
    return Inputs(
        label=label_of(model),
        schedule=model.facts["schedule"],
        max_steps=len(schedule_of(model)),
        errors=errors,
        floor=study["samples_floor"],
        network_error=metrics["tiny_corner_error"],
        network_floor=metrics["tiny_samples_floor"],
        exact_bound=[*cells.values()],
        tiny_bound=[row for row in compared if row["denoiser"] == "tiny"],
        entropy=study["entropy"],
    )


TOPIC = TOPICS.register(
    __name__,
    Topic("Exact limit of the tiny model", 5, [MODEL, METRICS, TINY_BOUND, ERRORS, EXACT_BOUND, STUDY], load),
)


@TOPIC.figure(
    caption="The error of each sampler with the exact denoiser, by noise schedule and number of steps. Dashed: chance.",
    alt="Curves of each sampler's error by number of steps, one panel per schedule",
)
def sampler_error(inputs: Inputs) -> Figure:
    samplers = list(dict.fromkeys(sampler for curves in inputs.errors.values() for sampler in curves))
    color = dict(zip(samplers, colors(len(samplers)), strict=True))
    figure, panels = curve_panels(
        f"Error of the samplers: {inputs.label}",
        "Lines: each sampler takes every step of its schedule with the exact denoiser, so all error is the sampler's. "
        "It falls to chance level (as many images of the data) as T grows. The linear schedule (1e-4 to 0.02) needs "
        "more steps: with few, x_T is far from the pure noise that sampling starts from. Star: the tiny model, whose "
        "own error is added.",
        "number of steps T",
        "error of corner colours (levels of 255)",
        [schedule.replace("_", " ") for schedule in inputs.errors],
        n_series=len(samplers) + 2,
    )
    network = f"network (chance: {inputs.network_floor:.2f})"
    points = [x for curves in inputs.errors.values() for curve in curves.values() for x, _ in curve]
    for axes, (schedule, curves) in zip(panels, inputs.errors.items(), strict=True):
        for sampler, curve in curves.items():
            x, y = zip(*curve, strict=True)
            axes.plot(x, y, label=sampler, color=color[sampler], linewidth=1.8, marker="o", markersize=4)
        if schedule == inputs.schedule:
            star = inputs.max_steps, inputs.network_error
            axes.plot(*star, label=network, color=INK, marker="*", markersize=14, linestyle="none")
        axes.axhline(inputs.floor, color=FAINT, linestyle="--", linewidth=1, label=f"chance: {inputs.floor:.2f}")
        axes.set_xscale("log")
        axes.set_xticks(sorted({*points, inputs.max_steps}))
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(ScalarFormatter())
    plain_log_scale(panels[0])
    legend_above(figure, panels)
    return figure


@TOPIC.figure(
    caption="The three parts of the variational bound (equation 5) of the exact denoiser and of the tiny model, and "
    "the entropy of the data.",
    alt="Stacked bars of the bound's parts for several numbers of steps, and a line for the entropy",
)
def tiny_bound(inputs: Inputs) -> Figure:
    schedules = list(dict.fromkeys(row["schedule"] for row in (*inputs.exact_bound, *inputs.tiny_bound)))
    figure, panels = curve_panels(
        f"Code length of gradients: {inputs.label}",
        "The parts of the variational bound (equation 5) of the exact denoiser; left bars: fixed_small, right, paler "
        f"bars: fixed_large; tiny: the network, with T = {inputs.max_steps}. Dashed: the entropy, the minimum of any "
        "code. Even the best denoiser stays above it, because its decoder codes each pixel independently.",
        "number of steps T",
        "bits/dim",
        [schedule.replace("_", " ") for schedule in schedules],
    )
    for axes, schedule in zip(panels, schedules, strict=True):
        exact = [(row["max_steps"], row) for row in inputs.exact_bound if row["schedule"] == schedule]
        tiny = [("tiny", row) for row in inputs.tiny_bound if row["schedule"] == schedule]
        names = [*sorted({name for name, _ in exact}, key=int), *dict(tiny)]
        for name, row in (*exact, *tiny):
            left = row["variance"] == "fixed_small"
            x = names.index(name) + (-BAR if left else BAR) / 2
            bottom = 0.0
            for part, (color, words) in PARTS.items():
                height = float(row[part])
                axes.bar(x, height, BAR, bottom, color=color, alpha=1 if left else 0.55, label=words if left else "")
                bottom += height
            axes.errorbar(x, bottom, float(row["margin"]), color=INK, linewidth=1.2)
        axes.axhline(inputs.entropy, color=INK, linestyle="--", linewidth=1.2, label=f"entropy: {inputs.entropy:.3f}")
        axes.set_xticks(range(len(names)), names)
        axes.grid(False, axis="x")
        axes.set_axisbelow(True)
    legend_above(figure, panels)
    return figure
