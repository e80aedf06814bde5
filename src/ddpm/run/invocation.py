"""The dvc that started this process. Its stages share a run in MLflow, and stop when it has ended."""

import os
import platform
import shlex
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path, PurePath
from typing import NamedTuple
from uuid import uuid4

import psutil

SHELLS = ("sh", "dash", "bash", "zsh")  # through which dvc runs a command


class Invocation(NamedTuple):
    """A run of the pipeline.

    Attributes:
        key: A unique identifier.
        command: The command line of its dvc, or "" for a stage that was started by hand.
        began: Its start time, in milliseconds.
    """

    key: str
    command: str
    began: int


def invocation() -> Invocation:
    """The run of the pipeline that this process belongs to, or a run of its own without dvc.

    A plain `dvc repro` has no name, so it is identified by its process.
    """
    if process := dvc_process():
        with suppress(psutil.Error):
            began = process.create_time()
            key = f"{platform.node()} {process.pid} {began:.2f}"
            return Invocation(key, shlex.join(process.cmdline()), int(began * 1000))
    return Invocation(uuid4().hex, "", time.time_ns() // 1_000_000)


def dvc_process() -> psutil.Process | None:
    """The nearest dvc process above this one, or None if there was none or it has ended."""
    for process in psutil.Process().parents():
        with suppress(psutil.Error):  # another user's process hides its command line
            if _is_dvc(process.cmdline()):
                return process
    return None


def has_outlived_dvc() -> bool:
    """Whether dvc started this process and ended before `dvc_process` could find it.

    The process above is then not Python, but the one that adopts orphaned processes. (A program that runs the pipeline
    with `import dvc` is a Python process that is not called dvc.)
    """
    if "DVC_STAGE" not in os.environ or dvc_process():
        return False
    nearest = next((process for process in psutil.Process().parents() if process.name() not in SHELLS), None)
    with suppress(psutil.Error):  # another user's process hides what it runs
        return nearest is None or not Path(nearest.exe()).name.startswith("python")
    return True


def _is_dvc(command: Sequence[str]) -> bool:
    """Whether a command line is `dvc ...`, `python .../dvc ...` or `python -m dvc ...`."""
    names = [PurePath(argument).stem.lower() for argument in command[:2]]
    if not names or not names[0].startswith("python"):
        return names[:1] == ["dvc"]
    return names[1:] == ["dvc"] or ("-m", "dvc") in pairwise(command)
