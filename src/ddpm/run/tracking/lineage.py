"""The outputs of every stage of the pipeline, so that the run that wrote them can be found by their MD5s.

A stage that DVC restores from its cache is not executed, so it has no run under the pipeline's. Its outputs are listed
in dvc.lock.
"""

import re
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from ddpm.run.params import PARAMS
from ddpm.run.plan import PLAN
from ddpm.run.root import checkout, in_repo, with_door
from ddpm.run.yaml import load_yaml

Outputs = dict[str, str]  # MD5s by path


def known_as(path: Path) -> str:
    """A file's path in the repository, or its name if it is elsewhere, in characters allowed in a tag's key."""
    name = in_repo(path)
    return re.sub(r"[^\w. /-]", "_", path.name if name.startswith(("/", "..")) else name)


def outputs_of_stages(stage: str, own: Outputs) -> dict[str, Outputs | None]:
    """The outputs of each stage at the time when one of them ends.

    Args:
        stage: The stage that ends. Its entry in dvc.lock is not written yet.
        own: Its outputs, or {} if it has failed.

    Returns:
        The outputs by stage name, without `check`, which has no runs. None for an outdated stage, whose inputs or
        params have changed. In a door, the stages of the main pipeline come first.
    """
    found: dict[str, Outputs | None] = {}
    made: Outputs = {}  # "" for outdated files
    folders = dict.fromkeys((checkout(), Path.cwd()))
    for folder in (folder for folder in folders if (folder / "dvc.lock").exists()):
        params = load_yaml(folder / PARAMS)
        for name, entry in _locked(folder):
            read, written = (_hashes(folder, entry.get(kind, ())) for kind in ("deps", "outs"))
            if name == stage:
                found[name] = own or None
            elif entry and _agree(entry, params) and all(made.get(path, md5) == md5 for path, md5 in read.items()):
                found[name] = written
            else:
                found[name] = None
            made |= found[name] or dict.fromkeys(written, "")
            if written and all(Path(path).parent.name == PLAN.name for path in written):
                del found[name]
    return found


def _locked(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The stages of a dvc.yaml, each after those whose outputs it reads, with its entry in dvc.lock or {}."""
    entries = load_yaml(folder / "dvc.lock")["stages"]
    for name in load_yaml(folder / "dvc.yaml")["stages"]:
        yield (with_door(name) if folder == Path.cwd() else name), entries.get(name, {})


def _hashes(folder: Path, files: Any) -> Outputs:
    return {known_as(folder / file["path"]): file["md5"] for file in files}


def _agree(entry: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """Whether a stage's params have not changed."""
    locked = entry.get("params", {}).get(PARAMS.name, {})
    return all(
        reduce(lambda values, part: values.get(part, {}), key.split("."), params) == value
        for key, value in locked.items()
    )
