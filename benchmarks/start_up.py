"""The seconds that the pipeline takes without its work: part of benchmarks/throughput.py."""

import os
import subprocess
import sys
import time
from pathlib import Path

from ruamel.yaml import YAML

# Runs a stage's script with nothing to do but to say when the stage would do it: imports, params and tracking are left.
START = """import runpy, sys, time, ddpm.run.stage as pipeline
whole = pipeline.run_stage
pipeline.run_stage = lambda name, main, **others: whole(name, lambda stage: print(time.time()), **others)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")"""


def start_up() -> dict[str, dict[str, float | None]]:
    """Seconds: `until_work` of each stage, until its work would begin, and `whole`, from start to end without it.

    `whole` also has `dvc repro` with nothing to do, or None where there is something. What a stage waits for at its
    end, that MLflow is imported and written to, goes on beside its work where there is work.
    """
    environment = os.environ | {"PYTHONPATH": "src"}

    def run(*command: str, check: bool = True) -> tuple[str, float, float]:
        """What it prints, when it started, and its seconds."""
        start = time.time()
        done = subprocess.run([sys.executable, *command], env=environment, check=check, capture_output=True, text=True)
        return done.stdout, start, time.time() - start

    stages = YAML(typ="safe", pure=True).load(Path("dvc.yaml"))["stages"]
    until_work, whole = dict[str, float | None](), dict[str, float | None]()
    for name, stage in stages.items():
        said, start, whole[name] = run("-c", START, *stage["cmd"].partition("python ")[2].split())
        until_work[name] = float(said) - start
    del environment["DVC_ROOT"]  # where throughput.py has the stages keep their records
    idle = "up to date" in run("-m", "dvc", "repro", "--dry", check=False)[0]
    whole["dvc repro"] = run("-m", "dvc", "repro")[2] if idle else None
    return {"until_work": until_work, "whole": whole}
