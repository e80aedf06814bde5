"""A training run whose steps can be counted."""

import pytest
import torch
from torch import nn

from benchmarks.core.rates import Trainee
from ddpm.run.resume.state import TrainingState


class Toy(Trainee):
    """Adds the step number to a weight: after n steps it is n (n + 1) / 2, unless one was missed or repeated."""

    name, settings, batch_size = "toy", "one", 2

    def __init__(self):
        self.taken = []

    def start(self, _train, n_steps, _seed):
        model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(model.weight)
        state = TrainingState({"model": model}, [])
        return state, self._steps(model, state, n_steps)

    def _steps(self, model, state, n_steps):
        for step in range(state.step + 1, n_steps + 1):
            with torch.no_grad():
                model.weight += step
            state.step = step
            self.taken.append(step)
            yield step


@pytest.fixture
def toy():
    return Toy()
