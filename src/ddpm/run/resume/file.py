"""The saved state of a stage: a safetensors file with a digest."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ddpm.errors import UserError
from ddpm.run.files import tensors_sha256, write_tensors


@runtime_checkable
class State(Protocol):
    """The progress of a stage, which `Resume` saves and loads.

    Attributes:
        unit: What `step` counts.
        breakable: Whether the work after a step may be interrupted anywhere, as it does not change the state. False
            for training, which changes the weights in place.
    """

    unit: ClassVar[str]
    breakable: ClassVar[bool]

    @property
    def step(self) -> int: ...

    def save(self, path: Path, about: Mapping[str, object]) -> None: ...

    def load(self, path: Path) -> None: ...

    def is_finite(self) -> bool: ...


def write_state(
    path: Path, about: Mapping[str, object], numbers: Mapping[str, object], tensors: Mapping[str, Tensor]
) -> None:
    """Write a state atomically.

    Args:
        path: The file.
        about: The run's `determinants`, or other JSON values.
        numbers: "step" and other JSON values.
        tensors: The tensors of the state, by name.
    """
    header = json.dumps({"about": about, **numbers})
    on_cpu = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    write_tensors(path, on_cpu, {"state": header, "digest": tensors_sha256(header, on_cpu)})


def read_state(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a state written by `write_state`.

    Returns:
        The numbers, including "about", and the tensors.

    Raises:
        UserError: The file is damaged. safetensors detects truncation, the digest any other change.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, not a dict
        if metadata["digest"] != tensors_sha256(metadata["state"], tensors):
            raise ValueError("its digest does not match")
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(f"{path}: damaged state ({error})") from error
    return json.loads(metadata["state"]), tensors


def read_about(path: Path) -> tuple[dict[str, Any], int]:
    """The `about` and the step of a saved state.

    Raises:
        UserError: The file is damaged.
    """
    numbers, _ = read_state(path)
    return numbers["about"], numbers["step"]
