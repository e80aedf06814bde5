"""dvc.yaml, written from what the scripts in `stages/` declare: `python -m ddpm.run.dvc`, or `make deps`."""

import sys
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, NamedTuple

from ddpm.errors import UserError
from ddpm.run.files import atomic_path
from ddpm.run.plan import PLAN, plan_path
from ddpm.run.stage import Stage
from ddpm.run.yaml import dump_yaml

DVC_YAML, STAGES = Path("dvc.yaml"), Path("stages")
CHECK = "check"  # the first stage, which every other one waits for


class Declared(NamedTuple):
    """A stage, and the script that declares it."""

    stage: Stage
    script: Path
    alone: bool  # in its script, so that it need not be named to it


def declared_stages(folder: Path = STAGES) -> dict[str, Declared]:
    """Every stage that a script in `folder` declares, by name, each after those whose outputs it reads."""
    found: dict[str, Declared] = {}
    for script in sorted(folder.glob("*.py")):
        spec = spec_from_file_location(f"stages_{script.stem}", script)
        if spec is None or spec.loader is None:
            raise UserError(f"{script}: cannot be imported")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        stages: dict[str, Stage] = getattr(module, "STAGES", {})
        if not stages:
            raise UserError(f"{script}: declares no STAGES")
        for name, stage in stages.items():
            if name in found:
                raise UserError(f"{script}: the stage {name} is declared in {found[name].script} too")
            found[name] = Declared(stage, script, len(stages) == 1)
    return {name: found[name] for name in TopologicalSorter(needs(found)).static_order()}


def needs(stages: Mapping[str, Declared]) -> dict[str, list[str]]:
    """For each stage, sorted, the stages whose outputs it reads."""
    writer = {path.as_posix(): name for name, (stage, *_) in stages.items() for path in stage.outputs}
    return {
        name: sorted({writer[dep] for dep in stage.deps if dep in writer} | ({CHECK} & stages.keys() - {name}))
        for name, (stage, *_) in sorted(stages.items())
    }


def chosen_modules(name: str, stages: Mapping[str, Declared], sections: Mapping[str, Any]) -> Iterator[str]:
    """The modules of the registry entries that the params of a stage choose, and that a model which it reads consists of.

    Args:
        sections: The sections of params.yaml by their stage's name.
    """
    read = [other for other in needs(stages)[name] if any(path.startswith("models/") for path in stages[other].stage.outs)]
    for stage in (name, *read):
        if hasattr(sections.get(stage), "chosen_modules"):
            yield from sections[stage].chosen_modules()


def dvc_entry(name: str, declared: Declared) -> dict[str, Any]:
    """The stage as it stands in dvc.yaml."""
    stage, script, alone = declared
    plan = [] if name == CHECK else [plan_path(name).as_posix()]
    params = [*stage.general, *([stage.key or name] if stage.section else [])]
    entry = {
        "cmd": f"PYTHONPATH=src python {script.as_posix()}{'' if alone else f' {name}'}",
        "deps": [*plan, *stage.deps],
        "params": params,
        "outs": [*stage.outs, *({path: {"cache": False}} for path in stage.reports)],
        "metrics": [{path: {"cache": False}} for path in stage.metrics],
        "plots": [{path: {"cache": False}} for path in stage.plots],
    }
    return {key: value for key, value in entry.items() if value}


def write(path: Path = DVC_YAML) -> bool:
    """Write the stages into dvc.yaml, and leave what stands before them; whether anything has changed."""
    before = path.read_text() if path.exists() else ""
    head = before.partition("stages:\n")[0]
    stages = {name: dvc_entry(name, declared) for name, declared in declared_stages().items()}
    if CHECK in stages:
        stages[CHECK]["outs"] = [(PLAN / "params.json").as_posix(), *(plan_path(n).as_posix() for n in stages if n != CHECK)]
    after = head + dump_yaml({"stages": stages})
    if after == before:
        return False
    with atomic_path(path) as temporary:
        temporary.write_text(after)
    return True


if __name__ == "__main__":
    try:
        print(f"{DVC_YAML}: {'written' if write() else 'nothing to write'}")
    except UserError as error:
        sys.exit(f"make deps: {error}")
