"""Work in independent pieces, such as batches of samples, that depend only on params and seed."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from ddpm.run.processes import shared, size
from ddpm.run.resume.context import Resume
from ddpm.run.resume.file import read_state, write_state

Piece = tuple[Tensor, ...]


class Pieces:
    """The finished pieces of a stage, by name. A resumed stage does not compute them again.

    They are saved every `checkpoint_seconds`, and when a piece is interrupted.
    """

    unit: ClassVar[str] = "piece"
    breakable: ClassVar[bool] = True

    def __init__(self, resume: Resume | None) -> None:
        """Load the saved pieces of this run.

        Args:
            resume: Saves the pieces to disk. With None, they are not saved.
        """
        self._resume = resume
        self._done: dict[str, Piece] = {}
        if resume:
            resume.start(self)

    @property
    def step(self) -> int:
        """Number of finished pieces."""
        return len(self._done)

    def __call__(self, makes: Mapping[str, Callable[[], Piece]]) -> Iterator[Piece]:
        """Compute the pieces that are missing, shared among the processes.

        Args:
            makes: A function for each piece that computes it, by name. Names must be unique in the stage.

        Yields:
            Each piece, in order, on the CPU.
        """
        missing = [name for name in makes if name not in self._done]
        for name in makes:
            if name not in self._done:
                first = missing.index(name)
                self._make({name: makes[name] for name in missing[first : first + size()]})
            yield self._done[name]

    def _make(self, makes: Mapping[str, Callable[[], Piece]]) -> None:
        """Compute pieces, at most as many as there are processes."""
        try:
            made = shared([partial(_on_cpu, make) for make in makes.values()])
            self._done |= zip(makes, made, strict=True)
            if self._resume:
                self._resume.after_step(self)
        except BaseException:
            if self._done and self._resume:
                self._resume.save(self)
            raise

    def within(self, group: str) -> Callable[[Mapping[str, Callable[[], Piece]]], Iterator[Piece]]:
        """Like `__call__`, for a group of pieces whose names need to be unique only within the group."""
        return lambda makes: self({f"{group}/{name}": make for name, make in makes.items()})

    def save(self, path: Path, about: Mapping[str, object]) -> None:
        """Write the pieces atomically. `about` identifies their run."""
        lengths = {name: len(piece) for name, piece in self._done.items()}
        tensors = {f"{name}/{i}": tensor for name, piece in self._done.items() for i, tensor in enumerate(piece)}
        write_state(path, about, {"step": self.step, "lengths": lengths}, tensors)

    def load(self, path: Path) -> None:
        """Load pieces written by `save`.

        Raises:
            UserError: The file is damaged. Nothing has been changed.
        """
        numbers, tensors = read_state(path)
        lengths = numbers["lengths"].items()
        self._done = {name: tuple(tensors[f"{name}/{i}"] for i in range(length)) for name, length in lengths}

    def is_finite(self) -> bool:
        """Always True: pieces are independent, so even one that is not finite is worth keeping."""
        return True


def _on_cpu(make: Callable[[], Piece]) -> Piece:
    return tuple(tensor.cpu() for tensor in make())
