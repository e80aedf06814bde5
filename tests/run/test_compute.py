"""What the settings of a machine change: the precision that `auto` stands for, and the rounding, by threads."""

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
def test_auto_is_bf16_where_that_is_faster(capabilities, auto, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert set_up("cpu", "auto").precision == auto
    assert set_up("cpu", "fp32").precision == "fp32"
    if capabilities:
        assert set_up("cpu", "bf16").precision == "bf16"
    else:
        with pytest.raises(UserError, match=r"params\.yaml: precision is bf16, but this cpu has no bf16 units"):
            set_up("cpu", "bf16")


def test_whatever_torch_was_set_to_one_thread_works():
    """Sums that threads share are rounded otherwise for each number of them."""
    torch.set_num_threads(2)
    set_up("cpu", "fp32")
    assert torch.get_num_threads() == 1
