"""A stage's script with one thing changed, as a process."""

import sys
from os import environ

ALTERED = """import runpy, sys, time
from dataclasses import replace
from ddpm.run import stage
run, sys.argv = stage.run, sys.argv[1:]
stage.run = lambda stages: run({{name: replace(declared, {change}) for name, declared in stages.items()}})
runpy.run_path(sys.argv[0], run_name="__main__")"""


def altered(script: str, stage: str, change: str = "") -> list[str]:
    """The command that runs a stage with `change`, such as "tracked=False", to what its script declares."""
    return [sys.executable, "-c", ALTERED.format(change=change), script, stage]


def environment(**values: str) -> dict[str, str]:
    """The environment of a stage that nothing around it disturbs, and `values`."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("MLFLOW_", "DVC_"))}
    return {**kept, "PYTHONPATH": "src", "MLFLOW_DISABLE_TELEMETRY": "true", **values}
