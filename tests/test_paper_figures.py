"""The counterparts of the paper's figures show each image and number where their headings say."""

import torch
from drawn import assert_shows, points, random_images

from ddpm.figures import curves, paper
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


def test_the_quality_of_the_estimates_runs_from_all_noise_to_none() -> None:
    axes = curves.x0_quality(QUALITY, 0.04, 1024, 50, "test", LABEL).axes[0]
    assert points(axes.lines[0]) == [(200, 20), (50, 5), (4, 0.4)]
    assert [y for _, y in points(axes.lines[1])] == [0.04, 0.04]
    left, right = axes.get_xlim()
    assert left > 200
    assert right < 4
