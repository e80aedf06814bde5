"""The classifier's learning rate is torch's one cycle."""

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from ddpm.training.classifier import one_cycle


@pytest.mark.parametrize("n_steps", [6, 50, 2150])
def test_one_cycle_is_torchs(n_steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    torchs = OneCycleLR(optimizer, 0.2, n_steps, pct_start=0.2, cycle_momentum=False)
    for done in range(n_steps):
        assert one_cycle(done, n_steps, 0.2) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        if done < n_steps - 1:
            torchs.step()


@pytest.mark.parametrize("n_steps", [1, 2, 5])
def test_one_cycle_of_so_few_steps_that_none_is_a_rise(n_steps):
    rates = [one_cycle(done, n_steps, 0.2) for done in range(n_steps)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 0.2
