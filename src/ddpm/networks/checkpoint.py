"""Trained models as safetensors files that describe themselves: nothing is unpickled, nothing must be guessed."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, get_args

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ddpm.diffusion.posterior import Prediction
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.errors import UserError
from ddpm.run.files import atomic_path, tensors_sha256
from ddpm.networks.model import DiffusionModel

# By name, so that a stage imports (and depends on) only the network that it trains.
NETWORKS = {
    "tiny": ("ddpm.networks.architectures.mlp:TinyDiffuser", "ddpm.networks.architectures.mlp:TinyDiffuserConfig"),
    "unet": ("ddpm.networks.architectures.unet:Unet", "ddpm.networks.architectures.unet:UnetConfig"),
}


def save_model(path: Path, model: DiffusionModel, facts: Mapping[str, Any]) -> None:
    """Write weights and noise schedule, and beside them the network's name and config and `facts`.

    facts: what a reader of the file should know (training step, seed, which weights these are); JSON values.
    Raises ValueError for a network that `load_model` would not know.
    """
    spelled = f"{type(model).__module__}:{type(model).__qualname__}"
    names = [name for name, (network, _) in NETWORKS.items() if network == spelled]
    if not names or model.noise_schedule is None:
        raise ValueError(f"cannot save {spelled}: need one of {sorted(NETWORKS)} with its noise_schedule")
    header = {"network": names[0], "config": asdict(model.config), "prediction": model.prediction, **facts}
    tensors = {key: value.cpu().contiguous() for key, value in model.state_dict().items()}
    header["digest"] = _digest(header, tensors)
    with atomic_path(path) as temporary:
        # One metadata key: safetensors writes several in an order that changes from run to run.
        save_file(tensors, temporary, metadata={"ddpm": json.dumps(header, sort_keys=True)})


def load_model(path: Path) -> tuple[DiffusionModel, dict[str, Any]]:
    """Rebuild the model that `save_model` wrote: (model on the CPU in eval mode, facts with "network" and "config").

    Raises UserError, naming the file, where it is missing, damaged or not such a file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["ddpm"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, not a dict
        if header.pop("digest") != _digest(header, tensors):
            raise ValueError("its digest is another")
        if odd := [key for key, value in tensors.items() if not value.isfinite().all()]:
            raise ValueError(f"{odd[0]} is not finite")
        network, config = (resolve_name(name) for name in NETWORKS[header["network"]])
        # JSON has no tuples; the config dataclasses have no lists.
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in header["config"].items()}
        model: DiffusionModel = network(config(**values))
        model.prediction = header["prediction"]
        if model.prediction not in get_args(Prediction):
            raise ValueError(f"prediction is {model.prediction!r}")
        betas = tensors["noise_schedule.betas"]
        model.noise_schedule = NoiseSchedule(len(betas), betas=betas)
        model.load_state_dict(tensors)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `dvc repro` to train the model first") from None
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise UserError(f"{path}: not a model file of this version, or damaged ({error}); train it again") from error
    return model.eval().requires_grad_(False), header


def _digest(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    return tensors_sha256(json.dumps(header, sort_keys=True), tensors)
