"""The project itself, copied to a folder and made small enough to run in a test."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ddpm.run.yaml import load_yaml

REPO = Path(__file__).parents[1]
STAGES = list(load_yaml(REPO / "dvc.yaml")["stages"])
TINY = {
    "processes": 1,
    "data": {"n_train": 300, "n_held_out": 300},
    "generate_gradients": {"n_train": 500, "n_held_out": 64},
    "train_tiny": {"epochs": 2, "max_steps": 25, "img_log_interval": 4, "n_eval_per_step": 4},
    "train_unet": {
        "unet": {"channels": 16, "groups": 4, "heads": 2, "head_channels": 4},
        "max_steps": 25,
        "n_eval": 8,
        "batch_size": 32,
        "epochs": 0.2,
        "n_eval_per_step": 1,
    },
    "train_classifier": {"epochs": 1},
    "sample": {
        "tiny": {"n_samples": 42, "n_trajectories": 2, "batch_size": 40},  # the minimum for testing colours
        "unet": {"n_samples": 258, "n_trajectories": 2, "batch_size": 256, "n_steps": 5},
    },
    "study_samplers": {"n_samples": 42, "max_steps": [21], "samplers": ["ancestral", "unipc"], "n_bound": 2},
    "evaluate_tiny": {"n_eval_per_step": 4, "n_samples": 42, "n_bound": 2},
    "evaluate_unet": {"n_samples": 258, "n_halves": 2, "epochs": 1},
    "controls": {"n_images": 258, "n_train": 300, "n_halves": 2, "epochs": 1},
    "bound": {"n_images": 10, "stride": 5},
    "paper": {
        "n_samples": 258,
        "batch_size": 256,
        "n_steps": 5,
        "n_moments": 2,
        "n_trajectories": 2,
        "n_halves": 2,
        "n_split": 1,
        "n_branches": 2,
        "coarse_depths": [0.0, 1.0],
        "n_pairs": 2,
        "n_lambdas": 3,
    },
}
# Appended to fashion_mnist.py: classifying 10,000 test images, as four stages do, takes longer than all else.
FEW = """

def few(folder: Path | None) -> tuple[ImageDataset, ImageDataset]:
    train, test = load(folder)
    return train[:600], test[:600]


DATASETS.register(__name__, DatasetSource((1, 28, 28), 600, 600, CLASS_NAMES, few))
"""
NOWHERE = "http://127.0.0.1:9"  # discard: nothing listens


def write_params(folder: Path, changes: dict[str, Any]) -> None:
    """Change values of the params.yaml in a folder, section by section, keeping its comments."""
    yaml = YAML()
    params = yaml.load(folder / "params.yaml")

    def update(section: dict[str, Any], values: dict[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, dict) and key in section:
                update(section[key], value)
            else:
                section[key] = value

    update(params, changes)
    yaml.dump(params, folder / "params.yaml")


def copy_project(target: Path) -> None:
    """The project as it stands, committed or not, as a fresh git repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPO,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (
            (REPO / name).is_file()
            and not name.startswith(("metrics.json", "tests/"))
            and not name.endswith("dvc.lock")
        ):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPO / name, target / name)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "copy"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *command], cwd=target, check=True)


def make_small(target: Path, raw: Path) -> None:
    """The project in an empty folder, with the smallest params and 600 images per split of FashionMNIST in `raw`."""
    copy_project(target)
    with (target / "src/ddpm/data/datasets/fashion_mnist.py").open("a") as file:
        file.write(FEW)
    write_params(target, TINY | {"data": TINY["data"] | {"path": str(raw)}})
