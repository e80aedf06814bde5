"""Settings that depend on the machine: the precision `auto`, and the number of threads."""

import pytest
import torch

from ddpm.errors import UserError
from ddpm.run.compute import Compute, set_up


@pytest.mark.parametrize(
    ("capabilities", "auto"),
    [
        ({}, "fp32"),
        ({"avx512_bf16": True}, "bf16"),
        ({"avx512_bf16": True, "avx512_fp16": True}, "fp32"),
        ({"avx512_bf16": True, "avx512_fp16": True, "amx_bf16": True}, "bf16"),
    ],
)
def test_precision_depends_on_cpu_capabilities(capabilities, auto, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert set_up("cpu", "auto").precision == auto
    assert set_up("cpu", "fp32").precision == "fp32"
    if capabilities:
        assert set_up("cpu", "bf16").precision == "bf16"
    else:
        with pytest.raises(UserError, match=r"params\.yaml: precision is bf16, but this cpu has no bf16 units"):
            set_up("cpu", "bf16")


def test_set_up_uses_one_thread():
    """The rounding of sums depends on the number of threads."""
    torch.set_num_threads(2)
    set_up("cpu", "fp32")
    assert torch.get_num_threads() == 1


def test_set_up_asks_for_deterministic_kernels():
    before = torch.get_deterministic_debug_mode()
    try:
        torch.set_deterministic_debug_mode("default")
        set_up("cpu", "fp32")
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.set_deterministic_debug_mode(before)


def test_missing_cuda_is_rejected(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"params\.yaml: device is cuda, but torch finds no CUDA device here; use auto"):
        set_up("cuda", "fp32")
    assert set_up("auto", "fp32").device == torch.device("cpu")


@pytest.mark.parametrize(("capability", "auto"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_processes_share_the_cuda_devices(capability, auto, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    for process, number in ((0, 0), (1, 1), (2, 0)):
        monkeypatch.setenv("LOCAL_RANK", str(process))
        found = set_up("auto", "auto")
        assert (found.device, found.precision) == (torch.device("cuda", number), auto)
        assert set_up("cpu", "fp32").device == torch.device("cpu")


@pytest.mark.parametrize(("precision", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_products_have_the_chosen_precision_and_weights_stay_float32(precision, expected):
    layer = torch.nn.Linear(3, 2)
    with Compute(precision=precision).autocast():
        assert layer(torch.ones(1, 3)).dtype == expected
    assert layer.weight.dtype == torch.float32
