"""Work in pieces, each of which depends on params and seed alone, as batches of samples do."""

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

    def __call__(self, makes: Mapping[str, Callable[[], Piece]]) -> Iterator[Piece]:
        """Make those pieces that have not been made; the processes share them.

        Args:
            makes: What makes each piece, by its name: another one for each piece of the stage.

        Yields:
            What each made, in order, on the CPU.
        """
        missing = [name for name in makes if name not in self._done]
        for name in makes:
            if name not in self._done:
                first = missing.index(name)
                self._make({name: makes[name] for name in missing[first : first + size()]})
            yield self._done[name]

    def _make(self, makes: Mapping[str, Callable[[], Piece]]) -> None:
        """Make as many pieces as there are processes, at most."""
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
        """The same for the pieces of a group, whose names need to differ from each other only."""
        return lambda makes: self({f"{group}/{name}": make for name, make in makes.items()})

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


def _on_cpu(make: Callable[[], Piece]) -> Piece:
    return tuple(tensor.cpu() for tensor in make())
