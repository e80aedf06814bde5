"""Topic exact: every sampler, schedule and bar is shown, with its own floor."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from figures.drawn import legend, points
from figures.made_up import MAX_STEPS, SAMPLERS, SCHEDULES, stage_run, table_of

from ddpm.figures.topics import exact

pytestmark = pytest.mark.usefixtures("outputs")


@pytest.fixture
def inputs() -> exact.Inputs:
    return exact.load(stage_run("render_exact"))


def table(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_sampler_has_a_curve_and_colour_in_each_panel(inputs):
    found = table("reports/study_samplers/sampler_error.csv")
    figure = exact.sampler_error(inputs)
    for axes, schedule in zip(figure.axes, SCHEDULES, strict=True):
        by_name = {line.get_label(): points(line) for line in axes.lines}
        for sampler in SAMPLERS:
            rows = [row for row in found if (row["schedule"], row["sampler"]) == (schedule, sampler)]
            assert by_name[sampler] == [(int(row["max_steps"]), float(row["corner_error"])) for row in rows]
        colours = {line.get_color() for line in axes.lines if line.get_label() in SAMPLERS}
        assert len(colours) == len(SAMPLERS)
    assert set(SAMPLERS) < set(legend(figure))


def test_sampler_colours_do_not_change_if_one_is_missing(inputs):
    first, *others = SAMPLERS
    errors = {**inputs.errors, "cosine": {name: inputs.errors["cosine"][name] for name in others}}
    whole, partial = (
        {line.get_label(): line.get_color() for line in exact.sampler_error(made).axes[1].lines}
        for made in (inputs, replace(inputs, errors=errors))
    )
    assert first not in partial
    assert {name: whole[name] for name in others} == {name: partial[name] for name in others}


def test_chance_line_and_network_marker_match_their_reports(inputs):
    study, tiny = (table_of(Path(f"reports/{name}/metrics.json")) for name in ("study_samplers", "evaluate_tiny"))
    figure = exact.sampler_error(inputs)
    for axes in figure.axes:
        (chance,) = [line for line in axes.lines if line.get_label().startswith("chance")]
        assert {y for _, y in points(chance)} == {study["samples_floor"]}
        assert chance.get_label() == f"chance: {study['samples_floor']:.2f}"
    stars = [[line for line in axes.lines if line.get_label().startswith("network")] for axes in figure.axes]
    assert [len(star) for star in stars] == [1, 0]  # only on the schedule of the tiny model
    assert points(stars[0][0]) == [(MAX_STEPS["tiny"], tiny["tiny_corner_error"])]
    assert stars[0][0].get_label() == f"network (chance: {tiny['tiny_samples_floor']:.2f})"


def test_bound_bars_stack_the_reported_terms(inputs):
    study, tiny = (table(f"reports/{name}/bound.csv") for name in ("study_samplers", "evaluate_tiny"))
    own = str(MAX_STEPS["tiny"])
    figure = exact.tiny_bound(inputs)
    for axes, schedule in zip(figure.axes, SCHEDULES, strict=True):
        # On the tiny model's own schedule and T, the exact denoiser is from the model's own report.
        chosen = {
            (row["max_steps"], row["variance"]): row
            for row in (*study, *(row for row in tiny if row["denoiser"] == "exact"))
            if row["schedule"] == schedule
        }
        if schedule == "linear":
            chosen |= {("tiny", row["variance"]): row for row in tiny if row["denoiser"] == "tiny"}
        places = ["9", own, "50", *(["tiny"] if schedule == "linear" else [])]
        assert [text.get_text() for text in axes.get_xticklabels()] == places
        bars: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for bar in axes.patches:
            middle = bar.get_x() + bar.get_width() / 2
            variance = "fixed_small" if middle < round(middle) else "fixed_large"
            bars.setdefault((places[round(middle)], variance), []).append((bar.get_y(), bar.get_height()))
        assert bars.keys() == chosen.keys()
        for cell, row in chosen.items():
            heights = [float(row[part]) for part in ("L_T", "L_between", "L_0")]
            assert bars[cell] == list(zip(numpy.cumsum([0, *heights[:2]]), heights, strict=True))
        (entropy,) = [line for line in axes.lines if line.get_label().startswith("entropy")]
        assert {y for _, y in points(entropy)} == {inputs.entropy}
    assert inputs.entropy == table_of(Path("reports/study_samplers/metrics.json"))["entropy"]
