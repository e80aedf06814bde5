"""A stage's work without dvc, tracking or real data: what it does with files in the working folder."""

import runpy
from pathlib import Path

import pytest
import torch
from project import REPO, TINY, write_params
from safetensors.torch import save_file

from ddpm.run.params import load_params
from ddpm.run.stage import Stage
from ddpm.run.seeding import generator
from ddpm.run.tracking.record import Run


def write_noise_project(folder: Path) -> None:
    """Tiny params, and images of noise with random labels in place of FashionMNIST."""
    (folder / "params.yaml").write_text((REPO / "params.yaml").read_text())
    write_params(folder, TINY)
    (folder / "data/fashion_mnist").mkdir(parents=True)
    for split, n in (("train", 400), ("test", 300)):
        images = torch.randint(256, (n, 1, 28, 28), dtype=torch.uint8, generator=generator(0, split))
        labels = torch.randint(10, (n,), dtype=torch.uint8, generator=generator(1, split))
        save_file({"images": images, "labels": labels}, folder / f"data/fashion_mnist/{split}.safetensors")
    # A training keys its state on the files that its stage depends on.
    for name in ("dvc.yaml", "src", "stages"):
        (folder / name).symlink_to(REPO / name)


def run(script: str, *arguments: str, **patches: object) -> None:
    """The `main` of a stage, with some names of its module replaced; what it raises comes through."""
    threads, params = torch.get_num_threads(), patches.pop("params", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [script, *arguments])
        main = runpy.run_path(str(REPO / "stages" / script))["main"]
        main.__globals__.update({"name": arguments[0] if arguments else None, **patches})
        try:
            main(Stage(params or load_params(), Run()))
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(False)
