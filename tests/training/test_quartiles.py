"""Quarters of 1..T, and the mean loss in each."""

import pytest
import torch

from ddpm.training.quartiles import means, named, tally


@pytest.mark.parametrize(
    ("max_steps", "lasts"), [(4, [1, 2, 3, 4]), (8, [2, 4, 6, 8]), (50, [13, 25, 38, 50]), (2, [1, None, 2, None])]
)
def test_quartiles_are_quarters_of_timesteps(max_steps, lasts):
    num_steps = torch.arange(1, max_steps + 1)
    table = tally(num_steps.double(), num_steps, max_steps)
    counts = table[4:].long().tolist()
    assert sum(counts) == max_steps
    ends = [sum(counts[: i + 1]) if counts[i] else None for i in range(4)]
    assert ends == lasts
    # The sums of the losses 1, 2, ..., T are those of consecutive runs of timesteps.
    assert table[:4].cumsum(0)[-1] == max_steps * (max_steps + 1) / 2
    assert table[0] == lasts[0] * (lasts[0] + 1) / 2


def test_means_are_over_all_images_of_several_steps():
    first = tally(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([1, 1, 4]), 4).tolist()
    second = tally(torch.tensor([6.0]), torch.tensor([1]), 4).tolist()
    assert means([first, second]) == [3.0, None, None, 9.0]


def test_metric_names_start_at_1_and_skip_empty_quartiles():
    assert named([0.5, None, 0.25, None]) == {"train/loss_q1": 0.5, "train/loss_q3": 0.25}
