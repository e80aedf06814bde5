"""Which precision `auto` stands for, on processors that this one is not."""

import pytest
import torch

from ddpm.compute import set_up
from ddpm.errors import UserError


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
