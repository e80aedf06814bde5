"""Where and in what precision the arithmetic runs: params `device`, `precision` and `threads`."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

import torch

from ddpm.errors import UserError

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Compute:
    """A device and the precision of matrix products and convolutions on it; weights stay float32."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = "fp32"

    def autocast(self) -> AbstractContextManager[object]:
        """Context in which a network's forward pass runs."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")


def set_up(device: str, precision: str, threads: int) -> Compute:
    """Fix the thread count, ask torch for deterministic kernels and resolve "auto".

    device "auto" is CUDA where there is one. precision "auto" is bf16 where the hardware multiplies in it (CUDA from
    Ampere on; CPUs with AVX-512 BF16), else fp32: emulated bf16 is an order of magnitude slower than fp32.
    Raises UserError where the device is not there or lacks the precision.
    """
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("params.yaml: device is cuda, but torch finds no CUDA device here; use auto or cpu")
    resolved = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    has_bf16 = _has_fast_bf16(resolved)
    if precision == "bf16" and not has_bf16:
        raise UserError(f"params.yaml: precision is bf16, but this {resolved.type} has no bf16 units; use auto or fp32")
    return Compute(resolved, "bf16" if precision != "fp32" and has_bf16 else "fp32")


def _has_fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))
