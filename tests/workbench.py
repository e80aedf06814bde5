"""Run a stage's own code in a folder, with small parameters and images of known greys, without dvc or tracking."""

import runpy
from inspect import unwrap
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from project import REPO
from torch import Tensor

from ddpm.data.dataset import ImageDataset, save_dataset
from ddpm.run.compute import Compute
from ddpm.run.params import load_params, section
from ddpm.run.resume.context import Resume
from ddpm.run.stage import Stage, StageRun
from ddpm.run.tracking.record import Run
from ddpm.run.yaml import dump_yaml, load_yaml

CLASS_NAMES = tuple("abcdefghij")


class Log(Run):
    """A tracking run that remembers the latest metrics, those of each step, and the tags."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.steps: dict[int, dict[str, float]] = {}
        self.tags: dict[str, str] = {}

    def log_metrics(self, metrics, step):
        self.metrics |= metrics
        self.steps.setdefault(step, {}).update(metrics)

    def set_tags(self, tags):
        self.tags |= tags

    def log_model(self, *model):
        self.model = model

    def summarize(self, *summary):
        self.summary = summary


def declared(name: str, folder: Path = REPO) -> tuple[Stage, dict[str, Any]]:
    """A stage of the pipeline in a folder, and its script's globals, which tests may replace."""
    scripts = [path for path in (folder / "stages").glob("*.py") if path.stem != "check"]
    for script in sorted(scripts, key=lambda path: path.stem != name):
        names = runpy.run_path(str(script), run_name=script.stem)
        if name in names["STAGES"]:
            stage = names["STAGES"][name]
            return stage, unwrap(getattr(stage.main, "func", stage.main)).__globals__
    raise LookupError(name)


def run(
    name: str,
    changes: dict[str, Any] | None = None,
    root_seed: int = 0,
    resume: Resume | None = None,
    folder: Path = REPO,
    **patches: Any,
) -> StageRun:
    """Run a stage of the pipeline in `folder` in the working folder, with some params and script globals replaced."""
    stage, names = declared(name, folder)
    key = stage.key or name
    values = load_yaml(folder / "params.yaml")
    node = values if stage.section else {}
    for part in key.split(".") if stage.section else ():
        node = node[part]
    node.update(changes or {})
    Path("params.yaml").write_text(dump_yaml(values))
    own = None if stage.section is None else section(load_params({key: stage.section}), key)
    at_work = StageRun(name, own, root_seed, Compute(), Log(), resume)
    with patch.dict(names, patches):  # they may be those of a module that stays imported
        stage.main(at_work)
    return at_work


def greys(first: int, n: int, shape: tuple[int, ...] = (1, 28, 28)) -> Tensor:
    """Uniform grey images: first, first + 1, ..."""
    return torch.arange(first, first + n, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, *shape).contiguous()


def noise(seed: int, n: int, shape: tuple[int, ...] = (1, 28, 28)) -> Tensor:
    return torch.randint(256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def save_split(split: str, images: Tensor, labels: Tensor | None = None, folder: str = "images") -> None:
    if labels is None:
        labels = (torch.arange(len(images)) % 10).to(torch.uint8)
    save_dataset(Path(f"data/{folder}/{split}.safetensors"), ImageDataset(images, labels, CLASS_NAMES))
