"""The networks that the page offers: model files, and models of DVC experiments."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ddpm.conditioning.guidance import draw_cond
from ddpm.data.dataset import Data
from ddpm.diffusion.model import DiffusionModel, schedule_of
from ddpm.errors import UserError
from ddpm.output import load_image_model
from ddpm.run.params import load_params

OURS = Path("models/unet.safetensors")
Networks = Mapping[str, Callable[[], DiffusionModel]]  # each is loaded when it is first chosen


def on_offer(paths: Sequence[Path]) -> Networks:
    """The networks to choose from, by path or experiment name.

    Args:
        paths: Model files. If empty, the pipeline's network and those of its experiments are offered.

    Raises:
        UserError: The first file is missing or not a model.
    """
    found = {str(path): cache(partial(load_image_model, path)) for path in paths or [OURS]}
    next(iter(found.values()))()
    return found if paths else found | {name: cache(partial(of_experiment, name)) for name in experiments()}


def experiments() -> list[str]:
    """The names of DVC's experiments. Empty outside a DVC repository."""
    command = [sys.executable, "-m", "dvc", "exp", "list", "--all-commits", "--name-only"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split() if done.returncode == 0 else []


def of_experiment(name: str) -> DiffusionModel:
    """The network of an experiment, from DVC's cache.

    Raises:
        UserError: The cache has no model, or a model of another version of the code.
    """
    from dvc.api import DVCFileSystem  # slow to import, and only experiments need it
    from dvc.exceptions import DvcException

    with TemporaryDirectory() as folder:
        path = Path(folder, OURS.name)
        try:
            DVCFileSystem(rev=name).get_file(OURS.as_posix(), str(path))
        except (DvcException, OSError):
            raise UserError(f"experiment {name} has no {OURS} in DVC's cache; try `dvc exp apply {name}`") from None
        return load_image_model(path)


def about(model: DiffusionModel) -> dict[str, Any]:
    """The properties of a network that the page needs, as JSON values."""
    return {
        "img_shape": list(model.img_shape),
        "max_steps": len(schedule_of(model)),
        "classes": class_names(model),
        "guided": bool(getattr(model.conditioning, "dropout", 0)),
    }


def class_names(model: DiffusionModel) -> list[str]:
    """The classes to choose from, empty for a network without classes.

    They are names if the data set of params.yaml has as many classes, else numbers.
    """
    cond = draw_cond(model, 0, range(1))
    if cond is None or model.conditioning.labels(cond) is None:
        return []
    n_classes = model.config.n_classes
    try:
        names = load_params({"data": Data}).data.source.class_names
    except UserError:  # no valid params.yaml, as when the model file comes from elsewhere
        names = ()
    return list(names if len(names) == n_classes else map(str, range(n_classes)))
