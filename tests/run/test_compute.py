"""Settings that depend on the machine: the precision `auto`, and the number of threads."""

import pytest
import torch

from ddpm.errors import UserError
from ddpm.run.compute import set_up


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
