"""Which optimiser gets which weights, at which learning rate."""

import pytest
import torch
from torch import nn
from training.small import Scale, params, tiny

from ddpm.training.muon import Muon
from ddpm.training.optimizers import lr_factor, make_optimizers, set_lr


class Mixed(Scale):
    """Weights of no, one, two and four dimensions."""

    def __init__(self):
        super().__init__()
        self.bias, self.matrix = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3, 2))
        self.kernel = nn.Parameter(torch.ones(2, 3, 3, 3))


def test_adam_gets_all_weights_without_muon():
    model = tiny()
    [adam] = make_optimizers(model, params(lr=0.02, adam_betas=[0.7, 0.8]))
    assert isinstance(adam, torch.optim.Adam)
    [group] = adam.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.02, (0.7, 0.8), 0)
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]


def test_muon_gets_matrices_and_kernels_with_its_own_lr():
    model = Mixed()
    adam, muon = make_optimizers(model, params(lr=0.02, muon_lr=0.3, adam_betas=[0.7, 0.8]))
    assert isinstance(muon, Muon)
    [of_adam], [of_muon] = adam.param_groups, muon.param_groups
    assert (of_adam["lr"], of_adam["betas"]) == (0.02, (0.7, 0.8))
    assert (of_muon["lr"], of_muon["momentum"]) == (0.3, 0.95)
    assert {id(p) for p in of_adam["params"]} == {id(model.w), id(model.bias)}
    assert {id(p) for p in of_muon["params"]} == {id(model.matrix), id(model.kernel)}


def test_set_lr_scales_the_initial_rates():
    optimizers = make_optimizers(Mixed(), params(lr=0.02, muon_lr=0.3))
    for factor in (0.5, 0.25, 1.0):
        set_lr(optimizers, factor)
        rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
        assert rates == pytest.approx([0.02 * factor, 0.3 * factor], rel=1e-12)


def test_lr_factor_with_warmup_and_decay():
    assert [lr_factor(done, 10, lr_decay="none") for done in (0, 5, 9)] == [1, 1, 1]
    expected = [0.25 * 1.0, 0.5 * 0.9, 0.75 * 0.8, 1.0 * 0.7, 0.6, 0.5]
    assert [lr_factor(done, 10, 4) for done in range(6)] == pytest.approx(expected, rel=1e-12)
    assert lr_factor(10, 10, 4) == 0
