"""Differences between params.yaml and its committed version, made by hand or by `dvc exp run -S`."""

import subprocess
from collections.abc import Mapping
from typing import Any

from ddpm.errors import UserError
from ddpm.run.params import PARAMS, flatten
from ddpm.run.root import door, in_repo
from ddpm.run.yaml import load_yaml, parse_yaml

# The params that most experiments vary. MLflow shows them for every run, so that runs of two commits can be compared.
MAIN = (
    *("seed", "data.name"),
    *(f"train_unet.{key}" for key in ("network", "conditioning", "prediction", "lr", "batch_size", "epochs")),
    *(f"sample.unet.{key}" for key in ("sampler", "n_steps", "guidance_scale", "n_samples")),
)


def committed_params() -> str | None:
    """The text of params.yaml in the last commit, the baseline of an experiment, or None without git."""
    command = ["git", "show", f"HEAD:./{PARAMS}"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def changed_params() -> dict[str, Any]:
    """The current values of params that differ from the committed ones, by keys as for `-S`. Removed ones are None."""
    text = committed_params()
    if text is None:
        return {}
    try:
        before, now = _flat(parse_yaml(text, f"HEAD:{PARAMS}")), _flat(load_yaml(PARAMS))
    except UserError:
        return {}
    return {
        key: now.get(key)
        for key in sorted({*before, *now})
        if (key in now, now.get(key)) != (key in before, before.get(key))
    }


def main_params() -> dict[str, Any]:
    """The current values of MAIN, by keys as for `-S`, if params.yaml has them."""
    try:
        now = _flat(load_yaml(PARAMS))
    except UserError:
        return {}
    return {key: value for key, value in now.items() if key.rpartition(":")[2] in MAIN}


def _flat(values: Any) -> dict[str, Any]:
    file = f"{in_repo(PARAMS)}:" if door() else ""
    return {f"{file}{key}": value for key, value in flatten(values)} if isinstance(values, Mapping) else {}
