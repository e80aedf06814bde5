"""The counterparts of the paper's figures show each image and number where their headings say."""

import torch
from drawn import assert_shows, points, random_images

from ddpm.figures import bound, curves, paper
from ddpm.figures.canvas import run_label

LABEL = run_label("U-Net", 1234, 42)
LAMBDAS = [0.0, 0.5, 1.0]
QUALITY = [
    {"num_steps": str(t), "fid_fashion_cnn": str(t / 10), "low": str(t / 12), "high": str(t / 9)} for t in (200, 50, 4)
]


def test_the_papers_figures_have_rows_and_columns_where_they_say() -> None:
    x = random_images(24, 1, 4, 4)
    shape = (1, 4, 4)
    estimates = paper.x0_estimates(x[:6].reshape(3, 2, *shape), torch.tensor([9, 5, 1]), 9, LABEL)
    assert_shows(estimates, [[x[0], x[2], x[4]], [x[1], x[3], x[5]]])  # a row is a sample, a column a moment
    split = paper.shared_latents(
        x[:4].reshape(2, 2, *shape), x[4:12].reshape(2, 2, 2, *shape), torch.tensor([9, 5]), 9, LABEL
    )
    assert_shows(split, [[x[i], x[4 + 2 * i], x[5 + 2 * i]] for i in range(4)])
    assert [text.get_text() for text in split.axes[0].get_yticklabels()] == [
        *("1: t = 9", "1: t = 5", "2: t = 9", "2: t = 5")
    ]
    mixed = x[4:10].reshape(2, 3, *shape)
    between = paper.interpolation(x[:4].reshape(2, 2, *shape), mixed, LAMBDAS, 5, 9, LABEL)
    assert_shows(between, [[x[0], *mixed[0], x[1]], [x[2], *mixed[1], x[3]]])
    coarse = paper.coarse_to_fine(x[:2], mixed, LAMBDAS, torch.tensor([0, 9]), 9, LABEL)
    assert_shows(coarse, [[x[0], *mixed[0], x[1]], [x[0], *mixed[1], x[1]]])
    assert [text.get_text() for text in coarse.axes[0].get_xticklabels()] == ["first", "0", "0.5", "1", "second"]


def test_rate_and_distortion_are_drawn_against_step_and_each_other() -> None:
    rates = {"fixed_small": [3.0, 1.5, 0.0], "fixed_large": [4.0, 2.5, 0.0]}
    distortion = [0.0, 2.0, 70.0]
    columns = {"t": [0, 1, 2], "distortion": distortion, **{f"rate_{name}": rate for name, rate in rates.items()}}
    rows = [{key: str(column[t]) for key, column in columns.items()} for t in range(3)]
    by_step, rate_by_step, by_rate = bound.rate_distortion(rows, 9, LABEL).axes
    assert points(by_step.lines[0]) == [(1, 2), (2, 70)]
    assert [points(line) for line in rate_by_step.lines] == [list(enumerate(rate)) for rate in rates.values()]
    assert [points(line) for line in by_rate.lines] == [
        list(zip(rate[1:], distortion[1:], strict=True)) for rate in rates.values()
    ]
    for axes in (by_step, rate_by_step):  # from all noise to none
        assert axes.get_xlim()[0] > axes.get_xlim()[1]


def test_the_bars_of_a_bound_end_at_its_length() -> None:
    parts = {"L_T": "0.5", "L_between": "1.5", "L_0": "2"}
    cells = [("tiny", "cosine", "100"), ("exact", "cosine", "100"), ("exact", "linear", "25"), ("exact", "linear", "9")]
    rows = [
        {"denoiser": who, "schedule": name, "max_steps": steps, "variance": variance, "margin": "0.1", **parts}
        for who, name, steps in cells
        for variance in ("fixed_small", "fixed_large")
    ]
    cosine, linear = bound.bound_by_steps(rows, 0.8, LABEL).axes
    for axes, places in ((cosine, ["100", "tiny"]), (linear, ["9", "25"])):
        assert [text.get_text() for text in axes.get_xticklabels()] == places
        bars = [(bar.get_y(), bar.get_height()) for bar in axes.patches]
        assert bars == [(0, 0.5), (0.5, 1.5), (2, 2)] * 4  # two variances at two places


def test_the_quality_of_the_estimates_runs_from_all_noise_to_none() -> None:
    axes = curves.x0_quality(QUALITY, 0.04, 1024, 50, "test", "55b86d742046", LABEL).axes[0]
    assert points(axes.lines[0]) == [(200, 20), (50, 5), (4, 0.4)]
    assert [y for _, y in points(axes.lines[1])] == [0.04, 0.04]
    left, right = axes.get_xlim()
    assert left > 200
    assert right < 4
