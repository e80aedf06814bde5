"""Device and precision of computations: params `device` and `precision`."""

import ctypes
import os
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Literal

import torch

from ddpm.errors import UserError

Precision = Literal["fp32", "bf16"]
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


@dataclass(frozen=True)
class Compute:
    """A device, and the precision of matrix products and convolutions on it. Weights stay float32."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = "fp32"

    def autocast(self) -> AbstractContextManager[object]:
        """The autocast context of a network's forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")


def set_up(device: str, precision: str) -> Compute:
    """Use one thread, ask torch for deterministic kernels, and resolve "auto".

    With several threads, the rounding of a sum would depend on their number. Processes share the work instead.

    Args:
        device: "cpu", "cuda" or "auto" (CUDA if available).
        precision: "fp32", "bf16" or "auto" (bf16 if it is faster on the hardware).

    Raises:
        UserError: The device is not available, or does not support the precision.
    """
    _keep_freed_memory()
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms, without importing the compiler
    # It guards against reading uninitialised memory, and takes 3 to 6 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("params.yaml: device is cuda, but torch finds no CUDA device here; use auto or cpu")
    resolved = torch.device("cpu")
    if device != "cpu" and torch.cuda.is_available():
        resolved = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    has_bf16, bf16_is_faster = _bf16_support(resolved)
    if precision == "bf16" and not has_bf16:
        raise UserError(f"params.yaml: precision is bf16, but this {resolved.type} has no bf16 units; use auto or fp32")
    return Compute(resolved, "bf16" if precision == "bf16" or (precision == "auto" and bf16_is_faster) else "fp32")


def _keep_freed_memory() -> None:
    """Keep freed memory in the process: each step needs as much again, and new pages cost 3 % of the time.

    Only glibc returns memory so eagerly, and only glibc has these settings.
    """
    with suppress(OSError, TypeError, AttributeError):  # no such library or function
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _bf16_support(device: torch.device) -> tuple[bool, bool]:
    """Whether the device multiplies in bf16, and whether that beats fp32: CUDA from Ampere on, and CPUs with AMX.

    AVX-512 BF16 without AMX is faster on some processors only. Intel processors that also have AVX-512 FP16 run bf16
    convolutions at two thirds of their fp32 speed.
    """
    if device.type == "cuda":
        ampere = torch.cuda.get_device_capability(device) >= (8, 0)
        return ampere, ampere
    has = torch.cpu.get_capabilities()
    avx512 = bool(has.get("avx512_bf16"))
    return avx512, bool(has.get("amx_bf16")) or (avx512 and not has.get("avx512_fp16"))
