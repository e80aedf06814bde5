"""Run a stage's script in a process, with a change to its declaration."""

import sys
from os import environ

ALTERED = """import runpy, sys, time
from dataclasses import replace
from ddpm.run import stage
run, sys.argv = stage.run, sys.argv[1:]
stage.run = lambda stages: run({{name: replace(declared, {change}) for name, declared in stages.items()}})
runpy.run_path(sys.argv[0], run_name="__main__")"""


def altered(script: str, stage: str, change: str = "") -> list[str]:
    """The command that runs a stage with a `change` to its declaration, such as "tracked=False"."""
    return [sys.executable, "-c", ALTERED.format(change=change), script, stage]


def environment(**values: str) -> dict[str, str]:
    """A clean environment for a stage, with `values` added."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("MLFLOW_", "DVC_"))}
    return {**kept, "PYTHONPATH": "src", "MLFLOW_DISABLE_TELEMETRY": "true", **values}
