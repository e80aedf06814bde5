"""Steps of one optimiser: against gradient descent by hand, stopped and resumed, and diverging."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ddpm.data.order import batches
from ddpm.errors import UserError
from ddpm.run.resume.context import Resume
from ddpm.run.resume.state import TrainingState
from ddpm.training.steps import take_steps, total_steps

RATES = [0.5, 0.4, 0.3, 0.2, 0.1, 0.05]


class Point(nn.Module):
    """One number, trained to be near its examples."""

    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1, dtype=torch.float64))


def learn(targets, batch_size=3, epochs=2, seed=0, resume=None, log_interval=None, rates=RATES):
    """Minimise the mean of (place - target)^2 / 2 by plain gradient descent."""
    point = Point()

    def loss_of(_, chosen):
        loss = ((point.place - targets[chosen]) ** 2 / 2).mean()
        point.zero_grad()
        loss.backward()
        return loss.item()

    state = TrainingState({"point": point}, [torch.optim.SGD(point.parameters())])
    params = SimpleNamespace(batch_size=batch_size, epochs=epochs)
    curve = take_steps(
        "test", state, len(targets), params, lambda done, _: rates[done], loss_of, seed, resume, log_interval
    )
    return curve, point.place.item()


def by_hand(targets, batch_size, n_steps, seed, rates=RATES):
    """The losses and the final place: each step moves to a weighted mean of the place and the batch's mean."""
    place, losses = 0.0, []
    for rate, chosen in zip(rates[:n_steps], batches(len(targets), batch_size, seed), strict=False):
        batch = targets[chosen].tolist()
        losses.append(sum((place - target) ** 2 for target in batch) / 2 / len(batch))
        place = (1 - rate) * place + rate * sum(batch) / len(batch)
    return losses, place


TARGETS = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0], dtype=torch.float64)  # batches of 3, 3 and 1


@pytest.mark.parametrize("seed", [0, 5])
def test_take_steps_matches_hand_computed_descent(seed):
    losses, place = by_hand(TARGETS, 3, 6, seed)
    curve, found = learn(TARGETS, seed=seed)
    assert found == pytest.approx(place, rel=1e-12)  # same sums in another order
    assert [step for step, _ in curve] == [3, 6]  # one an epoch
    assert [loss for _, loss in curve] == pytest.approx([sum(losses[:3]) / 3, sum(losses[3:]) / 3], rel=1e-12)


@pytest.mark.parametrize(("interval", "rows"), [(1, [1, 2, 3, 4, 5, 6]), (4, [4, 6]), (100, [6])])
def test_curve_rows_are_means_per_log_interval(interval, rows):
    losses, _ = by_hand(TARGETS, 3, 6, 0)
    curve, _ = learn(TARGETS, log_interval=interval)
    assert [step for step, _ in curve] == rows
    ends = [0, *rows]
    means = [sum(losses[a:b]) / (b - a) for a, b in zip(ends, rows, strict=False)]
    assert [loss for _, loss in curve] == pytest.approx(means, rel=1e-12)


@settings(max_examples=6, deadline=None)
@given(at=st.integers(1, 5))
def test_killed_and_resumed_run_matches_uninterrupted_run(tmp_path_factory, at):
    class Killed(Resume):
        def after_step(self, state, last=False):
            super().after_step(state, last)
            if state.step == at:
                raise KeyboardInterrupt

    folder = tmp_path_factory.mktemp("state")
    with pytest.raises(KeyboardInterrupt), Killed("stage", {}, 0.0, folder) as resume:
        learn(TARGETS, resume=resume)
    rest = [float("nan")] * at + RATES[at:]  # a step taken twice would make the weights NaN
    with Resume("stage", {}, 0.0, folder) as resume:
        assert learn(TARGETS, resume=resume, rates=rest) == learn(TARGETS)


def test_divergence_keeps_state_before_the_step(tmp_path):
    rates = [0.5, 1e9, *RATES]
    message = r"step 3 of 6.*epoch 1.*with lr 0\.5 and 1 images"
    with pytest.raises(UserError, match=message), Resume("stage", {}, 3600.0, tmp_path) as resume:
        learn(TARGETS, resume=resume, rates=rates)
    point = Point()
    with Resume("stage", {}, 0.0, tmp_path) as resume:
        state = TrainingState({"point": point}, [torch.optim.SGD(point.parameters())])
        resume.start(state)
    _, place = by_hand(TARGETS, 3, 2, 0, rates)
    assert state.step == 2
    assert point.place.item() == pytest.approx(place, rel=1e-12)


def test_non_finite_final_weights_raise():
    with pytest.raises(UserError, match="the weights after step 6, the last, are not finite"):
        learn(TARGETS, rates=[*RATES[:5], float("inf")])


@given(n=st.integers(1, 1000), batch_size=st.integers(1, 100), epochs=st.integers(1, 5))
def test_total_steps_cover_every_example_once_per_epoch(n, batch_size, epochs):
    steps = total_steps(n, SimpleNamespace(batch_size=batch_size, epochs=epochs))
    seen = torch.zeros(n, dtype=torch.int64)
    for chosen, _ in zip(batches(n, batch_size, 0), range(steps), strict=False):
        seen[chosen] += 1
    assert (seen == epochs).all()
