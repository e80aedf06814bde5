"""When a training run counts as diverged, and the error message."""

import pytest

from ddpm.training.divergence import diverged, is_diverged, loss_at


@pytest.mark.parametrize(
    ("loss", "first", "expected"),
    [
        (1.0, 1.0, False),
        (2.0e6, 2.0, False),
        (2.1e6, 2.0, True),
        (0.0, 0.0, False),
        *((loss, 1.0, True) for loss in (float("nan"), float("inf"), float("-inf"))),
    ],
)
def test_loss_diverges_if_not_finite_or_a_million_times_the_first(loss, first, expected):
    assert is_diverged(loss, first) == expected


@pytest.mark.parametrize(
    ("step", "place"),
    [(1, "batch 1 of 3 in epoch 1"), (3, "batch 3 of 3 in epoch 1"), (4, "batch 1 of 3 in epoch 2")],
)
def test_loss_at_locates_step_in_epoch(step, place):
    assert loss_at(step, 12, 3, 1234.5678) == f"the loss at step {step} of 12, {place}, is 1.23e+03"


def test_divergence_error_suggests_smaller_lr():
    expected = "training diverged: the loss is nan, with lr 0.00123 and 8 images; try a smaller lr"
    assert str(diverged("the loss is nan", 0.0012345, 8)) == expected
