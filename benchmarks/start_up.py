"""The seconds that the pipeline takes without its work: part of benchmarks/throughput.py."""

import os
import subprocess
import sys
import time
from pathlib import Path

from ruamel.yaml import YAML

# Runs a stage's script with nothing to do but to say when the stage would do it: imports, params and tracking are left.
START = """import runpy, sys, time, ddpm.pipeline as pipeline
whole = pipeline.run_stage
pipeline.run_stage = lambda name, main, **others: whole(name, lambda stage: print(time.time()), **others)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")"""


def start_up() -> dict[str, tuple[float | None, float | None]]:
    """Seconds of each stage until its work would begin, and in all without it; of `dvc repro` with nothing to do.

    None: there is something to do. What a stage waits for at its end, that MLflow is imported and written to, goes on
    beside its work where there is work.
    """
    environment = os.environ | {"PYTHONPATH": "src"}

    def run(*command: str) -> tuple[str, float]:
        start = time.time()
        done = subprocess.run([sys.executable, *command], env=environment, check=True, capture_output=True, text=True)
        return done.stdout, time.time() - start

    stages = YAML(typ="safe", pure=True).load(Path("dvc.yaml"))["stages"]
    result: dict[str, tuple[float | None, float | None]] = {}
    for name, stage in stages.items():
        start = time.time()
        said, seconds = run("-c", START, *stage["cmd"].partition("python ")[2].split())
        result[name] = float(said) - start, seconds
    del environment["DVC_ROOT"]  # where throughput.py has the stages keep their records
    idle = "up to date" in run("-m", "dvc", "repro", "--dry")[0]
    return result | {"dvc repro": (None, run("-m", "dvc", "repro")[1] if idle else None)}
