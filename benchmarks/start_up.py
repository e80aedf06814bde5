"""The seconds that the pipeline takes without its work: part of benchmarks/throughput.py."""

import os
import subprocess
import sys
import time
from pathlib import Path

from ruamel.yaml import YAML

# Runs a stage's script with nothing for the stage to do: its imports, params and tracking are left.
START = """import runpy, sys, ddpm.pipeline as pipeline
whole = pipeline.run_stage
pipeline.run_stage = lambda name, main, **others: whole(name, lambda stage: None, **others)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")"""


def start_up() -> dict[str, float | None]:
    """Seconds of each stage without its work, and of `dvc repro` with nothing to do (None: there is)."""
    environment = os.environ | {"PYTHONPATH": "src"}

    def seconds(*command: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], env=environment, check=True, capture_output=True)
        return time.perf_counter() - start

    stages = YAML(typ="safe", pure=True).load(Path("dvc.yaml"))["stages"]
    commands = {name: stage["cmd"].partition("python ")[2].split() for name, stage in stages.items()}
    result: dict[str, float | None] = {name: seconds("-c", START, *command) for name, command in commands.items()}
    del environment["DVC_ROOT"]  # where throughput.py has the stages keep their records
    status = [sys.executable, "-m", "dvc", "repro", "--dry"]
    idle = "up to date" in subprocess.run(status, env=environment, capture_output=True, text=True).stdout
    return result | {"dvc repro": seconds("-m", "dvc", "repro") if idle else None}
