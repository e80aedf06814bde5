"""Examples in README and docs: overrides of experiments are valid, and code blocks run."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dvc.cli.parser import get_main_parser
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps
from mlflow import MlflowClient
from pages import EXTENDING, PAGES, blocks, commands, name, stages
from PIL import Image
from project import NOWHERE, REPO

from ddpm.check import checked_params
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.networks.checkpoint import save_model
from ddpm.networks.network import NETWORKS
from ddpm.rules import RULES
from ddpm.run.tracking.model_registry import register
from ddpm.run.yaml import load_yaml


def overrides(pages: list[Path]) -> Iterator[tuple[str, ...]]:
    """Overrides of `dvc exp run -S`."""
    for page in pages:
        for words in commands(page):
            if words[:3] == ["dvc", "exp", "run"] and (changes := get_main_parser().parse_args(words[1:]).set_param):
                yield tuple(changes)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A project with the files that the docs mention: pictures, and a model to start from."""
    root, images = tmp_path_factory.mktemp("root"), np.arange(80 * 64).astype(np.uint8).reshape(80, 8, 8)
    for folder in ("pictures", ".data/digits", ".data/icons/usr/share/icons/oxygen/base/32x32", "my pictures"):
        (root / folder).mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(image).save(root / folder / f"{i}.png")
    np.savez(root / ".data/clothes.npz", x_train=images)
    params = checked_params(stages(), load_yaml(REPO / "params.yaml"))
    own, network = params.train_unet, NETWORKS[params.train_unet.network]
    model = network(own.config(params.data.source.img_shape, 10))
    model.noise_schedule = NoiseSchedule(own.max_steps, betas=SCHEDULES[own.schedule](own.max_steps))
    model.prediction = own.prediction
    save_model(root / "init/start.safetensors", model, {})
    return root


@pytest.mark.parametrize("changes", sorted(set(overrides([page for page in PAGES if page != EXTENDING]))), ids=" ".join)
def test_experiment_overrides_are_valid(changes, root, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(root))  # the base of relative paths
    for number, sweep in enumerate(get_hydra_sweeps(to_path_overrides(changes))):
        for file, own in sweep.items():
            path = tmp_path / f"{number}.yaml"
            shutil.copy(REPO / file, path)
            apply_overrides(path, own)
            pipeline = (REPO / file).parent  # a door's rules are in its stage check: tests/doors
            checked_params(stages(pipeline), load_yaml(path), RULES if pipeline == REPO else ())


def test_overrides_in_extending_are_valid(tmp_path):
    for folder in ("src", "stages"):
        shutil.copytree(REPO / folder, tmp_path / folder)
    for code in blocks(EXTENDING, "python"):
        (tmp_path / code.partition("\n")[0].removeprefix("# ")).write_text(code)
    tried = list(overrides([EXTENDING]))
    assert len(tried) == 3  # sampler, data set, network
    for number, changes in enumerate(tried):
        shutil.copy(REPO / "params.yaml", tmp_path / f"{number}.yaml")
        apply_overrides(tmp_path / f"{number}.yaml", [*changes])
    check = """
from pathlib import Path
from ddpm.check import checked_params
from ddpm.run.dvc import declared_stages
from ddpm.run.yaml import load_yaml
stages = declared_stages()
for path in Path().glob("*.yaml"):
    checked_params(stages, load_yaml(path))
"""
    command, environment = [sys.executable, "-c", check], os.environ | {"PYTHONPATH": "src"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def registered(path: Path, img_shape: tuple[int, ...]) -> None:
    """Register a network as the pipeline does, in the working folder's `mlflow.db`."""
    client = MlflowClient("sqlite:///mlflow.db")
    run = client.create_run(client.create_experiment("ddpm", artifact_location=Path("mlartifacts").absolute().as_uri()))
    settings = {"sampler": "ddim", "n_steps": 3, "spacing": "even", "clip_sample": True, "guidance_scale": 1.0}
    about = {"name": "unet", "img_shape": img_shape, "time": 1, "judged_by": {}}
    about |= {"metrics": {"auc": 0.9}, "headline": "auc"}
    register(client, run.info.run_id, path, about | {"settings": settings | {"options": {}}})


def examples() -> Iterator[Any]:
    """Python blocks that are not files: extending.md's files run in the pipeline tests."""
    for page in PAGES:
        for number, code in enumerate(blocks(page, "python")):
            if not re.match(r"# \S+/\S+\.py\n", code):
                yield pytest.param(code, id=f"{name(page)}-{number}")


@pytest.mark.parametrize("code", list(examples()))
def test_examples_run(code, tmp_path, monkeypatch):
    """In an empty folder, with a small model where the pipeline puts its own, and less training."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)  # creating MLflow's database takes longer than the training
    network: Any = NETWORKS["unet"]
    model = network(network.Config(img_shape=(1, 8, 8), channels=8, dim_mults=(1, 2), max_steps=10))
    model.noise_schedule = NoiseSchedule(10)
    (tmp_path / "models").mkdir()
    save_model(tmp_path / "models/unet.safetensors", model, {"step": 1, "seed": 0})
    if "models:/" in code:
        registered(tmp_path / "models/unet.safetensors", model.img_shape)
    shorter = re.sub(r'"epochs": \d+', '"epochs": 0.02', code)
    exec(compile(shorter, "<documentation>", "exec"), {"__name__": "example"})
