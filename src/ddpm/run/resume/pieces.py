"""Work made of pieces that depend on nothing but the params and the seed, as batches of samples do."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from ddpm.run.resume.context import Resume
from ddpm.run.resume.file import read_state, write_state

Piece = tuple[Tensor, ...]


class Pieces:
    """The finished pieces of a stage, by name: one that was made before the stage was stopped is not made again.

    They are written to disk at most every `checkpoint_seconds`, and whenever a piece is broken off.
    """

    unit: ClassVar[str] = "piece"
    breakable: ClassVar[bool] = True

    def __init__(self, resume: Resume | None) -> None:
        """resume: Where they are kept; None to keep none."""
        self._resume = resume
        self._done: dict[str, Piece] = {}
        if resume:
            resume.start(self)

    @property
    def step(self) -> int:
        return len(self._done)

    def __call__(self, name: str, make: Callable[[], Piece]) -> Piece:
        """What `make` gives, or gave when the stage was run before; tensors on the CPU."""
        if name not in self._done:
            try:
                self._done[name] = tuple(tensor.cpu() for tensor in make())
                if self._resume:
                    self._resume.after_step(self)
            except BaseException:
                if self._done and self._resume:
                    self._resume.save(self)
                raise
        return self._done[name]

    def within(self, group: str) -> Callable[[str, Callable[[], Piece]], Piece]:
        """The pieces of a group, whose names need to differ only from each other's."""
        return lambda name, make: self(f"{group}/{name}", make)

    def save(self, path: Path, about: Mapping[str, object]) -> None:
        """Write the pieces, whole or not at all; `about` says of which run they are (JSON values)."""
        lengths = {name: len(piece) for name, piece in self._done.items()}
        tensors = {f"{name}/{i}": tensor for name, piece in self._done.items() for i, tensor in enumerate(piece)}
        write_state(path, about, {"step": self.step, "lengths": lengths}, tensors)

    def load(self, path: Path) -> None:
        """Go back to what `save` wrote; UserError, with nothing changed, where the file is damaged."""
        numbers, tensors = read_state(path)
        lengths = numbers["lengths"].items()
        self._done = {name: tuple(tensors[f"{name}/{i}"] for i in range(length)) for name, length in lengths}

    def is_finite(self) -> bool:
        """A piece is what it is: the pieces to come do not depend on it."""
        return True
