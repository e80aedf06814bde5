"""Training from the weights of a model file."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator

from ddpm.diffusion.model import DiffusionModel, schedule_of
from ddpm.diffusion.schedule import SCHEDULES
from ddpm.errors import UserError
from ddpm.networks.checkpoint import load_model
from ddpm.run.root import from_root
from ddpm.training.params import Training

FOLDER = "init"  # for files that params.yaml names: a dependency of stage `check`, so that changes are noticed


def _a_file(name: str) -> str:
    there = sorted(path.name for path in from_root(FOLDER).glob("*.safetensors"))
    if name not in there:
        raise ValueError(f"{name!r} is not a model file in {FOLDER}; available: {', '.join(there) or 'none'}")
    return name


InitFile = Annotated[str, AfterValidator(_a_file)]


def load_init(path: Path, network: type[DiffusionModel], config: Any, params: Training) -> DiffusionModel:
    """Load a trained model to train it further.

    Args:
        path: The model file.
        network: The class of the network to train.
        config: The config of the network to train.
        params: The hyper-parameters of the new training.

    Raises:
        UserError: The file is missing, damaged, or not a model, or its network, schedule or prediction differs.
    """
    model = load_model(path)
    pairs = [("network", type(model).__name__, network.__name__)]
    if type(model) is network:
        theirs, ours = _values(model.config), _values(config)
        pairs += [(key, theirs[key], ours[key]) for key in ours]
        pairs += [("prediction", model.prediction, params.prediction)]
        if not torch.equal(schedule_of(model).betas, SCHEDULES[params.schedule](params.max_steps)):
            pairs += [("schedule", model.facts.get("schedule", "of its own"), params.schedule)]
    for key, its_own, wanted in pairs:
        if its_own != wanted:
            raise UserError(f"{path}: its {key} is {its_own}, and this training's is {wanted}; they must be equal")
    return model.requires_grad_()


def _values(config: Any) -> dict[str, Any]:
    """The values of a config after a round trip through JSON, as in a file."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return values
