"""Trained models as self-describing safetensors files: no pickle, no separate config."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.posterior import Prediction
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.errors import UserError
from ddpm.networks.network import NETWORKS
from ddpm.run.files import tensors_sha256, write_tensors


def save_model(path: Path, model: DiffusionModel, facts: Mapping[str, Any]) -> None:
    """Write weights and noise schedule, with the network's name, config and `facts` in the header.

    Args:
        path: The safetensors file.
        model: A trained network, with its noise_schedule.
        facts: Metadata such as training steps and seed, as JSON values.

    Raises:
        ValueError: The network is not one of `architectures/`, or has no noise_schedule.
    """
    folder, _, name = type(model).__module__.rpartition(".")
    if folder != NETWORKS.package or model.noise_schedule is None:
        raise ValueError(
            f"cannot save {type(model).__name__}: need one of {', '.join(NETWORKS)} with its noise_schedule"
        )
    header = {"network": name, "config": asdict(model.config), "prediction": model.prediction, **facts}
    tensors = {key: value.cpu().contiguous() for key, value in model.state_dict().items()}
    header["digest"] = _digest(header, tensors)
    write_tensors(path, tensors, {"ddpm": json.dumps(header, sort_keys=True)})


def load_model(path: str | Path) -> DiffusionModel:
    """Load a model that `save_model` wrote.

    Args:
        path: A safetensors file, such as models/unet.safetensors.

    Returns:
        The model on the CPU, in eval mode and with frozen weights. `model.facts` is the file's metadata.

    Raises:
        UserError: The file is missing, damaged, or not a model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["ddpm"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, not a dict
        if header.pop("digest") != _digest(header, tensors):
            raise ValueError("its digest does not match")
        if odd := [key for key, value in tensors.items() if not value.isfinite().all()]:
            raise ValueError(f"{odd[0]} is not finite")
        network: Any = NETWORKS[header.pop("network")]
        # JSON has no tuples, and the config dataclasses have no lists.
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in header.pop("config").items()}
        model: DiffusionModel = network(network.Config(**values))
        model.prediction = header.pop("prediction")
        if model.prediction not in get_args(Prediction):
            raise ValueError(f"prediction is {model.prediction!r}")
        betas = tensors["noise_schedule.betas"]
        model.noise_schedule = NoiseSchedule(len(betas), betas=betas)
        model.load_state_dict(tensors)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `dvc repro` to train the model first") from None
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError, UserError) as error:
        raise UserError(f"{path}: not a model file of this version, or damaged ({error}); train it again") from error
    model.facts = header
    return model.eval().requires_grad_(False)


def _digest(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    return tensors_sha256(json.dumps(header, sort_keys=True), tensors)
