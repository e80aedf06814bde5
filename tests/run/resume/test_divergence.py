"""Diverging training is stopped and leaves the last good state."""

import re

import pytest
import torch
from safetensors import safe_open
from ten_steps import ABOUT, PARAMS, STEPS, images, network, train

from ddpm.data.order import batches
from ddpm.errors import UserError
from ddpm.run.resume.context import Resume
from ddpm.run.resume.file import read_about
from ddpm.run.resume.state import TrainingState
from ddpm.training.fit import fit
from ddpm.training.loop import Examples


def test_non_finite_loss_keeps_last_good_state(tmp_path):
    order = [chosen.tolist() for chosen, _ in zip(batches(40, 8, 3), range(5), strict=False)]
    data = images()
    data[order[3][0]] = torch.inf  # an image of the first epoch's fourth batch
    with (
        pytest.raises(UserError, match="the loss at step 4 of 10, batch 4 of 5 in epoch 1, is"),
        Resume("stage", ABOUT, 3600.0, tmp_path) as resume,
    ):
        train(resume=resume, data=data)
    assert read_about(resume.path) == (ABOUT, 3)
    with safe_open(resume.path, "pt") as file:
        assert all(file.get_tensor(name).float().isfinite().all() for name in file.keys())  # noqa: SIM118, not a dict


def test_exploding_finite_loss_stops_training(tmp_path):
    # Adam moves each weight by about lr, so that the outputs of two layers grow as its square.
    params = PARAMS.model_copy(update={"lr": 1e4, "warmup_steps": 0})
    message = r"the loss at step (\d+) of 10, batch \d of 5 in epoch [12], is \d\S+, with lr \S+ and 8 images; try"
    with pytest.raises(UserError, match=message) as error, Resume("stage", ABOUT, 3600.0, tmp_path) as resume:
        fit(network(), params, Examples(images()), Examples(images(6)), seed=3, resume=resume)
    assert read_about(resume.path)[1] == int(re.search(message, str(error.value))[1]) - 1


def test_non_finite_state_does_not_replace_good_one(tmp_path, monkeypatch):
    # The loss of a step is finite and its update is not. The state is written after every step.
    backward = torch.Tensor.backward

    def broken(loss):
        backward(loss)
        broken.calls += 1
        if broken.calls == broken.at:
            next(model.parameters()).grad.fill_(torch.nan)

    monkeypatch.setattr(torch.Tensor, "backward", broken)
    for at, message in (
        (4, "the loss at step 5 of 10, batch 5 of 5 in epoch 1, is nan"),
        (STEPS, "the weights after step 10, the last"),
    ):
        model, broken.calls, broken.at = network(), 0, at
        with (
            pytest.raises(UserError, match=f"training diverged: {message}.* 8 images; try a smaller lr"),
            Resume(f"stage{at}", ABOUT, 0.0, tmp_path) as resume,
        ):
            fit(model, PARAMS, Examples(images()), Examples(images(6)), seed=3, resume=resume)
        assert read_about(resume.path) == (ABOUT, at - 1)


def test_first_loss_is_the_earliest_known():
    state = TrainingState({}, [])
    assert state.first_loss(7.0) == 7.0
    state.recent = [3.0, 1.0]
    assert state.first_loss(7.0) == 3.0
    state.train_loss, state.recent = [(2, 2.0), (4, 1.5)], [1.0]
    assert state.first_loss(7.0) == 2.0


@pytest.mark.parametrize("broken", ["weight", "exp_avg_sq"])
def test_state_is_finite_only_if_weights_and_moments_are(broken):
    layer = torch.nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.Adam(layer.parameters())
    state = TrainingState({"model": layer}, [optimizer])
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert state.is_finite()
    (layer.weight.data if broken == "weight" else optimizer.state[layer.weight][broken])[0, 1] = torch.inf
    assert not state.is_finite()
