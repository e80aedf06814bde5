"""Write dvc.yaml from the declarations in `stages/`: `make deps`, or `python -m ddpm.run.dvc`.

README and docs/pipeline.md get a diagram of the stages. Each door (docs/doors.md) has its own dvc.yaml and README.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import chdir
from graphlib import CycleError, TopologicalSorter
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, NamedTuple

from ddpm.errors import UserError
from ddpm.run.diagram import mermaid, with_diagram
from ddpm.run.files import atomic_path
from ddpm.run.params import section
from ddpm.run.plan import PLAN, plan_path, source_folder
from ddpm.run.root import in_repo
from ddpm.run.stage import Stage, mistakes_in_one_line
from ddpm.run.yaml import dump_yaml

DVC_YAML, STAGES, DOORS = Path("dvc.yaml"), Path("stages"), Path("doors")
WITH_DIAGRAM = Path("README.md"), Path("docs/pipeline.md")
CHECK = "check"  # the first stage, on which all others depend
USED_BY_RUN = {"seed": "ddpm.run.seeding", "device": "ddpm.run.compute"}  # modules that use general params


class Declared(NamedTuple):
    """A stage, its script, and whether it is the script's only stage, so that the command need not name it."""

    stage: Stage
    script: Path
    alone: bool


Stages = Mapping[str, Declared]  # by name


def declared_stages(folder: Path = STAGES) -> dict[str, Declared]:
    """Import the scripts in a folder.

    Returns:
        All stages that they declare, each after the stages whose outputs it reads.

    Raises:
        UserError: A script declares no stage, two declare the same stage or output, or there is a cycle.
    """
    found: dict[str, Declared] = {}
    for script in sorted(folder.glob("*.py")):
        stages = _declared_in(script)
        for name, stage in stages.items():
            if name in found:
                raise UserError(f"{script}: stage {name} is declared in {found[name].script} too")
            found[name] = Declared(stage, script, len(stages) == 1)
    try:
        return {name: found[name] for name in TopologicalSorter(needs(found)).static_order()}
    except CycleError as error:
        raise UserError(f"stages depend on each other: {' -> '.join(error.args[1])}") from None


def needs(stages: Stages) -> dict[str, list[str]]:
    """For each stage, the stages whose outputs it reads, all in alphabetical order."""
    writers: dict[str, str] = {}
    for name, declared in stages.items():
        for path in map(Path.as_posix, declared.stage.outputs):
            if writers.setdefault(path, name) != name:
                raise UserError(f"{path} is an output of stages {writers[path]} and {name}; only one may write it")
    first = {CHECK} & stages.keys()
    return {
        name: sorted({writers[dep] for dep in stages[name].stage.deps if dep in writers} | (first - {name}))
        for name in sorted(stages)
    }


def sections(stages: Stages) -> dict[str, type[Any]]:
    """The class of each section of params.yaml, by its key."""
    return {stage.key or name: stage.section for name, (stage, *_) in stages.items() if stage.section}


def used_by_name(name: str, stages: Stages, params: Any) -> set[str]:
    """The modules that a stage uses without importing them.

    Args:
        name: The stage.
        stages: All stages.
        params: All params.

    Returns:
        The modules of the registry entries that it declares, that its section chooses, or that a model it reads has
        chosen. Also the modules that use its seed and its device.
    """
    models = [
        other for other in needs(stages)[name] if any(out.startswith("models/") for out in stages[other].stage.outs)
    ]
    used = {
        *stages[name].stage.entries,
        *(USED_BY_RUN[key] for key in stages[name].stage.general if key in USED_BY_RUN),
    }
    for stage in (name, *models):
        if (model := stages[stage].stage.section) and hasattr(model, "chosen_modules"):
            used |= {*section(params, stages[stage].stage.key or stage).chosen_modules()}
    return used


def dvc_yaml(stages: Stages) -> str:
    """The stages in the format of dvc.yaml."""
    entries = {name: _entry(name, declared) for name, declared in stages.items()}
    if CHECK in stages:  # kept until it succeeds, as they still describe the outputs
        plans = [PLAN / "params.json", *(plan_path(name) for name in stages if name != CHECK)]
        entries[CHECK]["outs"] = [{path.as_posix(): {"persist": True}} for path in plans]
    return dump_yaml({"stages": entries})


def diagram(stages: Stages) -> str:
    """The stages as a mermaid graph, without `check`, on which all others depend."""
    before = needs(stages)
    return mermaid({name: {*before[name]} - {CHECK} for name in stages if name != CHECK})


def write(path: Path = DVC_YAML, pages: Iterable[Path] = WITH_DIAGRAM) -> list[Path]:
    """Write the stages to a dvc.yaml, keeping what precedes them, and the diagram to the pages that exist.

    Returns:
        The files that have changed.
    """
    stages = declared_stages()
    before = {file: file.read_text() if file.exists() else "" for file in (path, *pages)}
    after = {page: with_diagram(before[page], diagram(stages)) for page in pages}
    after[path] = before[path].partition("stages:\n")[0] + dvc_yaml(stages)
    changed = [file for file in before if after[file] != before[file]]
    for file in changed:
        with atomic_path(file) as temporary:
            temporary.write_text(after[file])
    return changed


def write_all() -> Iterator[str]:
    """Call `write` in the main repository and in each door, and yield the paths of the files that have changed."""
    for folder in (Path(), *sorted(script.parent for script in DOORS.glob(f"*/{STAGES}"))):
        with chdir(folder):
            yield from [in_repo(path) for path in write()]


def _declared_in(script: Path) -> dict[str, Stage]:
    spec = spec_from_file_location(f"stages_{script.stem}", script)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    stages: dict[str, Stage] = getattr(module, "STAGES", {})
    if not stages:
        raise UserError(f"{script}: declares no stage; it needs a dict STAGES")
    return stages


def _entry(name: str, declared: Declared) -> dict[str, Any]:
    stage, script, alone = declared
    entry = {
        "cmd": f"PYTHONPATH={source_folder().as_posix()} python {script.as_posix()}{'' if alone else f' {name}'}",
        "deps": [*([] if name == CHECK else [plan_path(name).as_posix()]), *stage.deps],
        "params": [*stage.general, *([stage.key or name] if stage.section else [])],
        "outs": [*stage.outs],
        "metrics": [{path: {"cache": False}} for path in stage.metrics],
        "plots": [*stage.plots],
    }
    return {key: value for key, value in entry.items() if value}


def main(words: Sequence[str]) -> None:
    """Write the files that have changed, and print their paths."""
    if words:
        raise UserError(f"the arguments are {' '.join(words)!r}; there must be none")
    if not any(STAGES.glob("*.py")):
        raise UserError(f"there is no {STAGES}/*.py here; run it at the top of the repository")
    print(f"written: {', '.join(write_all()) or 'nothing'}")


if __name__ == "__main__":
    with mistakes_in_one_line("make deps"):
        main(sys.argv[1:])
