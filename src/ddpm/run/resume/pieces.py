"""Work in pieces, each of which depends on params and seed alone, as batches of samples do."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from ddpm.run.resume.context import Resume
from ddpm.run.resume.file import read_state, write_state

Piece = tuple[Tensor, ...]


class Pieces:
    """The finished pieces of a stage, by name. What was made before the stage was stopped is not made again.

    They are written to disk every `checkpoint_seconds`, and when a piece is broken off.
    """

    unit: ClassVar[str] = "piece"
    breakable: ClassVar[bool] = True

    def __init__(self, resume: Resume | None) -> None:
        """Load what was kept of this run.

        Args:
            resume: Keeps the pieces on disk; None to keep none.
        """
        self._resume = resume
        self._done: dict[str, Piece] = {}
        if resume:
            resume.start(self)

    @property
    def step(self) -> int:
        """Pieces made."""
        return len(self._done)

    def __call__(self, name: str, make: Callable[[], Piece]) -> Piece:
        """Make a piece, unless it has been made.

        Args:
            name: Another one for each piece.
            make: Makes the piece.

        Returns:
            What `make` returned, on the CPU.
        """
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
        """The same for the pieces of a group, whose names need to differ from each other only."""
        return lambda name, make: self(f"{group}/{name}", make)

    def save(self, path: Path, about: Mapping[str, object]) -> None:
        """Write the pieces, whole or not at all. `about` says of which run they are."""
        lengths = {name: len(piece) for name, piece in self._done.items()}
        tensors = {f"{name}/{i}": tensor for name, piece in self._done.items() for i, tensor in enumerate(piece)}
        write_state(path, about, {"step": self.step, "lengths": lengths}, tensors)

    def load(self, path: Path) -> None:
        """Load what `save` wrote.

        Raises:
            UserError: The file is damaged; nothing has changed.
        """
        numbers, tensors = read_state(path)
        lengths = numbers["lengths"].items()
        self._done = {name: tuple(tensors[f"{name}/{i}"] for i in range(length)) for name, length in lengths}

    def is_finite(self) -> bool:
        """Always: no piece depends on another, so even one that is not finite is worth keeping."""
        return True
