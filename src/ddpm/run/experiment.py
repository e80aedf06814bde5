"""Experiments in the workspace: what `dvc exp run -S` has written to params.yaml, and how to undo it.

DVC writes the overrides before any stage runs, and leaves them there if one fails. A later command would inherit them.
"""

import os
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from ddpm.errors import UserError
from ddpm.run.baseline import committed_params
from ddpm.run.invocation import dvc_process
from ddpm.run.params import PARAMS
from ddpm.run.root import checkout, dvc_command, in_repo, repo_root
from ddpm.run.yaml import load_yaml, parse_yaml

OPTIONS = "-S", "--set-param"


def way_back() -> str:
    """The commands that restore the last commit's parameters and results, in one line."""
    undo = f"git checkout HEAD {in_repo(PARAMS)} && {dvc_command('repro')}"
    return f"to go back to the last commit's parameters and their results: {undo}"


def is_in_workspace() -> bool:
    """Whether this process belongs to an experiment that runs in the workspace, not in a copy of it."""
    return "DVC_EXP_NAME" in os.environ and checkout().resolve() == repo_root().resolve()


def take_back_overrides() -> bool:
    """Restore the committed values of the keys that the experiment's command line overrides.

    Returns:
        Whether they were restored. False outside an experiment in the workspace, or if its command line cannot be read.
    """
    keys = list(overridden(*_command()))
    committed = committed_params()
    if not is_in_workspace() or not keys or committed is None:
        return False
    from dvc.utils.serialize import modify_yaml  # keeps comments

    with suppress(UserError, OSError):
        before = parse_yaml(committed, f"HEAD:{PARAMS}")
        if not isinstance(load_yaml(PARAMS), dict):
            return False
        with modify_yaml(str(PARAMS)) as values:
            for key in keys:
                _give_back(values, before, key.split("."))
        if load_yaml(PARAMS) == before:
            PARAMS.write_text(committed, encoding="utf-8")  # DVC has reformatted the file
        return True
    return False


def overridden(command: Sequence[str], folder: Path = Path()) -> Iterator[str]:
    """The dotted keys of params.yaml that a `dvc exp run` overrides: `-S key=value`, also with + or ~ before the key.

    Args:
        command: The command line of dvc. A path and a colon before a key name the file that contains it.
        folder: Where it was started.
    """
    words = iter(command)
    for word in words:
        for option in OPTIONS:
            if word == option:
                value = next(words, "")
            elif word.startswith(option) and (rest := word.removeprefix(option)):
                value = rest.removeprefix("=")
            else:
                continue
            file, _, key = value.partition("=")[0].rpartition(":")
            if in_repo(folder / (file or PARAMS)) == in_repo(PARAMS) and key.lstrip("+~"):
                yield key.lstrip("+~")
            break


def _command() -> tuple[list[str], Path]:
    """The command line and working folder of the dvc above this process, or ([], Path()) if none can be read."""
    with suppress(psutil.Error):
        if process := dvc_process():
            return process.cmdline(), Path(process.cwd())
    return [], Path()


def _give_back(values: MutableMapping[str, Any], before: Any, keys: Sequence[str]) -> None:
    """Restore the value at the path `keys`, or remove it if there was none."""
    first, *rest = keys
    was_there = isinstance(before, dict) and first in before
    if rest and was_there and isinstance(values.get(first), MutableMapping):
        _give_back(values[first], before[first], rest)
    elif was_there:
        values[first] = before[first]
    else:
        values.pop(first, None)
