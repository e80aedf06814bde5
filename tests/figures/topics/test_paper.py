"""Topic paper: the counterparts of the paper's figures show images and numbers under the right headings."""

import csv
import re
from pathlib import Path

import pytest
from figures.drawn import assert_shows, columns, legend, note, points, rows
from figures.made_up import stage_run, table_of
from safetensors.torch import load_file

from ddpm.figures.topic import TOPICS
from ddpm.figures.topics import paper

pytestmark = pytest.mark.usefixtures("outputs")


@pytest.fixture
def inputs() -> paper.Inputs:
    return paper.load(stage_run("render_paper"))


@pytest.fixture
def made():
    return {name: tensor / 255 for name, tensor in load_file("samples/paper.safetensors").items() if tensor.ndim > 3}


def table(path: str) -> dict[str, list[float]]:
    with Path(path).open(newline="") as file:
        found = list(csv.DictReader(file))
    return {key: [float(row[key]) for row in found] for key in found[0]}


def test_titles_cite_paper_figures_and_notes_state_chain_length(inputs):
    for name, entry in TOPICS["paper"].figures.items():
        figure = entry.draw(inputs)
        assert re.match(r"Figures? \d", figure.get_suptitle())
        length = "chains of 16 steps" if name == "paper_05" else r"(of|chain of) 11\b"  # figure 5 takes all steps
        assert re.search(length, note(figure))


def test_estimates_have_a_row_per_sample_and_a_column_per_step(inputs, made):
    figure = paper.paper_06_14(inputs)
    assert_shows(figure, [[moment[i] for moment in made["estimates"]] for i in (0, 1)])
    assert columns(figure) == ["16", "8", "1"]


def test_samples_from_a_shared_latent_are_beside_it(inputs, made):
    figure = paper.paper_07(inputs)
    expected = [
        [made["latents"][chain, depth], *made["branches"][chain, depth]] for chain in (0, 1) for depth in (0, 1)
    ]
    assert_shows(figure, expected)
    assert rows(figure) == ["1: t = 16", "1: t = 4", "2: t = 16", "2: t = 4"]


def test_interpolations_are_between_their_sources(inputs, made):
    figure = paper.paper_08(inputs)
    pairs = zip(made["sources"], made["interpolation"], strict=True)
    assert_shows(figure, [[first, *mixed, second] for (first, second), mixed in pairs])
    assert columns(figure) == ["first", "0", "0.5", "1", "second"]
    assert "t = 7" in note(figure)


def test_coarse_interpolations_use_the_first_pair(inputs, made):
    figure = paper.paper_09(inputs)
    first, second = made["sources"][0]
    assert_shows(figure, [[first, *mixed, second] for mixed in made["coarse"]])
    assert rows(figure) == ["0", "8", "16"]


def test_rate_distortion_curves_match_the_bound_table(inputs):
    found = table("reports/bound/test.csv")
    figure = paper.paper_05(inputs)
    by_step, rate_by_step, by_rate = figure.axes
    t, distortion, rates = found["t"], found["distortion"], [found["rate_learned"], found["rate_fixed_small"]]
    assert points(by_step.lines[0]) == list(zip(t[1:], distortion[1:], strict=True))
    assert [points(line) for line in rate_by_step.lines] == [list(zip(t, rate, strict=True)) for rate in rates]
    assert [points(line) for line in by_rate.lines] == [
        list(zip(rate[1:], distortion[1:], strict=True)) for rate in rates
    ]
    assert legend(figure) == ["learned", "fixed_small"]
    for axes in (by_step, rate_by_step):  # from all noise to none
        assert axes.get_xlim()[0] > axes.get_xlim()[1]
    assert "321 test images" in note(figure)


def test_x0_quality_figure_shows_curve_interval_and_floor(inputs):
    found, floor = table("reports/paper/x0_quality.csv"), table_of(Path("reports/paper/x0_quality.json"))
    figure = paper.paper_10(inputs)
    axes = figure.axes[0]
    t, value = found["num_steps"], found["fid_classifier"]
    assert points(axes.lines[0]) == list(zip(t, value, strict=True))
    assert {y for _, y in points(axes.lines[1])} == {floor["fid_classifier_floor"]["value"]}
    (band,) = axes.collections
    assert band.get_paths()[0].get_extents().ymin == min(found["low"])
    assert band.get_paths()[0].get_extents().ymax == max(found["high"])
    left, right = axes.get_xlim()
    assert left > right
    assert legend(figure)[0] == f"x0 estimates: {value[-1]:.3g} at the end"  # of sampling, t = 1
    assert "777 chains of 11 steps, against the test split (extractor 58f213f585c7)" in note(figure)
