"""What the settings of a machine change: the precision that `auto` stands for, and the rounding, by threads."""

import pytest
import torch

from ddpm.errors import UserError
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.run.compute import set_up
from ddpm.run.seeding import generator, global_stream
from ddpm.training.course import COURSE_DEFAULTS
from ddpm.training.fit import fit
from ddpm.training.loop import Examples
from ddpm.training.params import Training


@pytest.mark.parametrize(
    ("capabilities", "auto"),
    [
        ({}, "fp32"),
        ({"avx512_bf16": True}, "bf16"),
        ({"avx512_bf16": True, "avx512_fp16": True}, "fp32"),
        ({"avx512_bf16": True, "avx512_fp16": True, "amx_bf16": True}, "bf16"),
    ],
)
def test_auto_is_bf16_where_that_is_faster(capabilities, auto, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    threads = torch.get_num_threads()
    assert set_up("cpu", "auto", threads).precision == auto
    assert set_up("cpu", "fp32", threads).precision == "fp32"
    if capabilities:
        assert set_up("cpu", "bf16", threads).precision == "bf16"
    else:
        with pytest.raises(UserError, match=r"params\.yaml: precision is bf16, but this cpu has no bf16 units"):
            set_up("cpu", "bf16", threads)


def test_threads_change_the_rounding_and_nothing_else():
    images = torch.rand(64, 1, 28, 28, generator=generator(0, "images")) * 2 - 1
    few = {"max_steps": 50, "lr": 1e-3, "batch_size": 32, "epochs": 1.0, "log_interval": 1}
    before, losses = torch.get_num_threads(), []
    for threads in (1, 2):
        set_up("cpu", "fp32", threads)
        with global_stream(0, "init"):
            model = Unet(UnetConfig((1, 28, 28), channels=16, dim_mults=(1, 2), groups=4, heads=2, max_steps=50))
        history = fit(model, Training(**COURSE_DEFAULTS | few), Examples(images), seed=1)
        losses.append([loss for _, loss in history.train_loss])
    set_up("cpu", "fp32", before)
    torch.use_deterministic_algorithms(False)
    # Other noise, steps or order of the batches would change the second digit; float32 rounds the seventh.
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
