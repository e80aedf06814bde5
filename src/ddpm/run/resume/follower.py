"""`Resume` for processes that share a stage's work: the first saves the state, and the others load it from there."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from ddpm.errors import UserError
from ddpm.run.processes import gathered, of_first
from ddpm.run.resume.context import Resume
from ddpm.run.resume.file import State


class Follower(Resume):
    """Loads the state that the first process resumes from, and saves none."""

    def __init__(self) -> None:
        pass

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        pass

    def start(self, state: State) -> None:
        """Load the state that the first process has loaded."""
        if content := of_first(b""):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "state.safetensors"
                path.write_bytes(content)
                state.load(path)

    def after_step(self, state: State, last: bool = False) -> None:
        """Do nothing: the first process saves and stops."""

    def save(self, state: State) -> None:
        """Do nothing."""


def check_agreement(about: Mapping[str, str]) -> None:
    """Check that all processes do the same run.

    Args:
        about: The `determinants` of this one.

    Raises:
        UserError: They differ in params, code, inputs or the version of torch. The message names the differences.
    """
    first = of_first(dict(about))
    other = sorted(key for key in {*first, *about} if first.get(key) != about.get(key))
    for number, keys in enumerate(gathered(other), start=1):
        if keys:
            raise UserError(
                f"process {number} differs from the first in {', '.join(keys)}; all need the same files and versions"
            )
