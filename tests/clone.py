"""A copy of the project, small enough for a test, that is run as a user would run it."""

import gzip
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from project import STAGES, TINY, copy_project, write_params
from ruamel.yaml import YAML

from ddpm.run.files import md5

# Runs the stages of pipelines and what they need as `dvc repro` does, each in a child of one process that has imported
# the libraries already: for stages as small as these, importing takes most of the time. It is called dvc, so that
# stages recognise it.
FORKING_DVC = """
import atexit, os, runpy, shlex, sys, traceback
import matplotlib.figure, networkx, scipy.stats, torch, torchmetrics.image.kid, torchvision
from dvc.repo import Repo

with Repo() as repo:
    graph = repo.index.graph
    wanted = [stage for target in sys.argv[1:] for stage in repo.stage.collect(target)]
    ordered = dict.fromkeys(each for stage in wanted for each in networkx.dfs_postorder_nodes(graph, stage))
for stage in ordered:
    if child := os.fork():
        if os.waitpid(child, 0)[1]:
            sys.exit(f"{stage.addressing} failed")
        continue
    os.chdir(stage.wdir)
    os.environ["DVC_STAGE"] = stage.addressing
    sys.argv = shlex.split(stage.cmd)[2:]  # without PYTHONPATH=src python
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(0)  # a full exit collects garbage in all memory, which copies it: two seconds
"""
N_IMAGES = 600  # per split: classifying 10,000 test images, as four stages do, takes longer than all else


def stages_run(output: str) -> list[str]:
    """The stages that dvc has run, from its output."""
    return [stage for stage in STAGES if f"Running stage '{stage}'" in output]


def write_images(path: Path, raw: Path) -> None:
    """The first images of FashionMNIST as a data set of its own: arrays in a file."""
    arrays = {}
    for split, name in (("train", "train"), ("test", "t10k")):
        for key, kind, header, shape in (("x", "images-idx3", 16, (28, 28)), ("y", "labels-idx1", 8, ())):
            with gzip.open(raw / f"{name}-{kind}-ubyte.gz") as file:
                numbers = file.read(header + N_IMAGES * int(np.prod(shape)))[header:]
            arrays[f"{key}_{split}"] = np.frombuffer(numbers, np.uint8).reshape(-1, *shape)
    np.savez(path, **arrays)


class Clone:
    """A copy of the project in a folder, which may exist already.

    Args:
        folder: Where it is.
        environment: The environment of every command.
        images: The data set, an .npz file.
    """

    def __init__(self, folder: Path, environment: dict[str, str], images: Path) -> None:
        self.folder, self.environment = folder, environment
        if folder.exists():
            return
        folder.mkdir()
        copy_project(folder)
        write_params(folder, TINY | {"data": TINY["data"] | {"name": "npz", "path": str(images)}})

    def start(self, *command: str) -> subprocess.Popen:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, text=True, start_new_session=True, **pipes
        )

    def finish(self, process: subprocess.Popen, status: int = 0) -> str:
        try:
            output, _ = process.communicate(timeout=1200)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert process.returncode == status, output
        return output

    def run(self, *command: str, status: int = 0) -> str:
        return self.finish(self.start(*command), status)

    def lock(self) -> dict[str, Any]:
        return YAML(typ="safe").load(self.folder / "dvc.lock")["stages"]

    def plans(self) -> dict[str, dict[str, str]]:
        """What stage check found: the digests of each stage's code."""
        return {path.stem: json.loads(path.read_text()) for path in (self.folder / "plan").glob("*.json")}

    def files(self) -> dict[Path, str]:
        """Every output and the lock, by path."""
        paths = [self.folder / "dvc.lock", self.folder / "metrics.json"]
        for kind in ("plan", "data", "models", "samples", "reports"):
            paths += [path for path in (self.folder / kind).rglob("*") if path.is_file()]
        return {path: md5(path) for path in paths}

    def runs(self) -> list:
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        return client.search_runs([client.get_experiment_by_name("ddpm").experiment_id])

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--allow-empty", "-qm", "ran")
