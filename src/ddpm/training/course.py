"""The course's `train`: Algorithm 1 with Adam, from a dict of hyper-parameters and two TensorDatasets."""

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from ddpm.diffusion.model import DiffusionModel
from ddpm.errors import UserError
from ddpm.images import check_images
from ddpm.run.compute import Compute
from ddpm.run.params import validated
from ddpm.run.tracking.outbox import tracking_uri, without_secrets
from ddpm.run.tracking.record import stage_run
from ddpm.training.fit import fit
from ddpm.training.init import load_init
from ddpm.training.loop import Examples
from ddpm.training.params import Training

# Defaults for keys that the course's config_dict does not have: plain Adam on the paper's schedule.
COURSE_DEFAULTS = {
    "prediction": "eps",
    "weighting": "simple",
    "step_sampling": "uniform",
    "schedule": "linear",
    "muon_lr": None,
    "lr_decay": "none",
    "warmup_steps": 0,
    "max_grad_norm": None,
    "adam_betas": [0.9, 0.999],
    "ema_decay": 0.0,
    "flip": False,
    "max_shift": 0,
    "micro_batches": 1,
    "log_interval": 50,
    "img_log_interval": 200,
    "n_images_to_log": 3,
}
# Keys of the course's config_dict that do not concern training. They are logged and have no effect.
DESCRIPTIVE = {"image_shape", "hidden_size", "n_images", "n_eval_images"}


def train(
    model: DiffusionModel,
    config_dict: Mapping[str, Any],
    trainset: TensorDataset,
    testset: TensorDataset | None = None,
    track: bool = True,
    init: str | Path | None = None,
) -> DiffusionModel:
    """Train `model` by Algorithm 1 with Adam (or Muon, with muon_lr), and log to MLflow.

    If the activations of a batch do not fit into memory, accumulate gradients over `micro_batches`.

    Args:
        model: The network, trained in place from its current weights.
        config_dict: Hyper-parameters, named as in `ddpm.training.params.Training`. lr, epochs, batch_size and
            max_steps are required. The others default to `COURSE_DEFAULTS`, device to "cpu" and seed to 0.
            The course's image_shape, hidden_size, n_images and n_eval_images are only logged.
        trainset: The first tensor holds images in [-1, 1], (n, channels, height, width). For a class-conditional model,
            the second holds their classes, (n,).
        testset: The same, for evaluation during training.
        track: Log to MLflow, and print where. If False, nothing is written.
        init: A model file of the same network, schedule and prediction, whose weights are loaded into `model` first.
            Its MD5 is logged to MLflow.

    Returns:
        `model`, with its noise_schedule set.

    Raises:
        UserError: A key is unknown or missing, or a value or a data set is not valid, in which case nothing is trained.
            Also raised if training diverges.
    """
    own = {"device", "seed"} | DESCRIPTIVE
    params = validated(
        Training, COURSE_DEFAULTS | {k: v for k, v in config_dict.items() if k not in own}, "config_dict"
    )
    config, seed = getattr(model, "config", None), config_dict.get("seed", 0)
    if not isinstance(seed, Integral):
        raise UserError(f"config_dict: seed is {seed!r}; it must be a whole number")
    if params.max_steps != (built_for := getattr(config, "max_steps", params.max_steps)):
        raise UserError(f"config_dict: max_steps is {params.max_steps}; the network was built for {built_for}")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError("the network's weights are frozen, as `load_model` returns them: call model.requires_grad_()")
    compute = Compute(_device(config_dict.get("device", "cpu")))
    if init is not None:
        trained = load_init(Path(init), type(model), config, params)
        model.noise_schedule = trained.noise_schedule
        model.load_state_dict(trained.state_dict())
    elif model.conditioning is not None:
        model.conditioning.fit(_images(model, trainset, "trainset"), int(seed))
    examples = _examples(model, trainset, "trainset")
    held_out = None if testset is None else _examples(model, testset, "testset")
    if track:
        print(f"train: logs to {without_secrets(tracking_uri())}", file=sys.stderr)
    with stage_run("train", config_dict) if track else nullcontext() as log:
        if log and init is not None:
            log.log_input(Path(init))
        fit(model, params, examples, held_out, int(seed), compute, log)
    return model


def _device(name: Any) -> torch.device:
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):  # torch's message lists devices that are not allowed here
        raise UserError(f"config_dict: device is {name!r}; it must be cpu or cuda") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"config_dict: device is {device}; the noise schedule is float64, so it must be cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"config_dict: device is {device}, but torch finds no such device here; it can be cpu")
    return device


def _examples(model: DiffusionModel, dataset: TensorDataset, name: str) -> Examples:
    images = _images(model, dataset, name)
    if model.conditioning is None:
        return Examples(images)
    if len(dataset.tensors) < 2:
        try:
            return Examples(images, model.conditioning.encode(images, None))
        except ValueError:
            raise UserError(f"{name} has one tensor; this network needs a second one, the images' classes") from None
    labels = dataset.tensors[1]
    if labels.ndim != 1:
        raise UserError(f"{name}: labels have shape {tuple(labels.shape)}; they must have ({len(labels)},)")
    try:
        return Examples(images, model.conditioning.of_labels(labels))
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None


def _images(model: DiffusionModel, dataset: TensorDataset, name: str) -> Tensor:
    images = next(iter(dataset.tensors), torch.empty(0))
    try:
        check_images(images, model.img_shape, name)
    except ValueError as error:
        raise UserError(str(error)) from None
    if not len(images):
        raise UserError(f"{name} has no images; it must have at least one")
    return images.to(next(model.parameters()).dtype)
