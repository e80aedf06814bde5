"""The state of a training run: everything that its remaining steps and its outputs depend on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor, nn
from torch.optim import Optimizer

from ddpm.run.resume.file import read_state, write_state

NUMBERS = ("step", "recent", "tallies", "train_loss", "quartile_loss", "eval_loss", "preview_steps")


@dataclass
class TrainingState:
    """The networks, their optimisers and the curves after some training steps.

    Random numbers, the order of the images and the learning rate are not part of it: they are functions of the seed and
    the step.

    Attributes:
        modules: The networks, by name.
        optimizers: Their optimisers.
        step: Number of steps taken.
        recent: Losses since the last row of train_loss.
        tallies: Losses by quarter of the timesteps (`quartiles.tally`) since then.
        train_loss: As in `fit.History`, like the other lists.
    """

    unit: ClassVar[str] = "step"
    breakable: ClassVar[bool] = False

    modules: Mapping[str, nn.Module]
    optimizers: Sequence[Optimizer]
    step: int = 0
    recent: list[float] = field(default_factory=list)
    tallies: list[list[float]] = field(default_factory=list)
    train_loss: list[tuple[int, float]] = field(default_factory=list)
    quartile_loss: list[tuple[int, list[float | None]]] = field(default_factory=list)
    eval_loss: list[tuple[int, float]] = field(default_factory=list)
    preview_steps: list[int] = field(default_factory=list)
    previews: list[UInt8[Tensor, "n c h w"]] = field(default_factory=list)

    def save(self, path: Path, about: Mapping[str, object]) -> None:
        """Write the state atomically. `about` identifies the run."""
        write_state(path, about, {name: getattr(self, name) for name in NUMBERS}, self._tensors())

    def load(self, path: Path) -> None:
        """Load a state written by `save`.

        Raises:
            UserError: The file is damaged. Nothing has been changed.
        """
        numbers, tensors = read_state(path)
        for name in NUMBERS:
            rows = numbers[name]
            setattr(self, name, [tuple(row) for row in rows] if name.endswith("_loss") else rows)
        self.previews = [tensors[f"previews/{i}"] for i in range(len(self.preview_steps))]
        for name, module in self.modules.items():
            module.load_state_dict(_below(name, tensors))
        for i, optimizer in enumerate(self.optimizers):
            saved = optimizer.state_dict()
            for j, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"]):
                values = _below(f"optimizer{i}/{j}", tensors)
                saved["state"][j] = {key: _laid_out_like(parameter, value) for key, value in values.items()}
            optimizer.load_state_dict(saved)

    def first_loss(self, otherwise: float) -> float:
        """The loss at the start: the first value of train_loss, else the loss of the first step, else `otherwise`."""
        return self.train_loss[0][1] if self.train_loss else (*self.recent, otherwise)[0]

    def is_finite(self) -> bool:
        """Whether all numbers are finite."""
        return all(value.isfinite().all() for value in self._tensors().values())

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"previews/{i}": preview for i, preview in enumerate(self.previews)}
        for name, module in self.modules.items():
            tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
        for i, optimizer in enumerate(self.optimizers):
            for j, values in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer{i}/{j}/{key}": value for key, value in values.items()}
        return tensors


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(f"{prefix}/"): value for key, value in tensors.items() if key.startswith(f"{prefix}/")}


def _laid_out_like(parameter: Shaped[Tensor, "*any"], value: Shaped[Tensor, "*other"]) -> Shaped[Tensor, "*other"]:
    """`value` in the parameter's memory format (channels last), which the fused Adam assumes."""
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value) if value.shape == parameter.shape else value
