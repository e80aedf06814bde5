"""The course's `train`: Algorithm 1 with Adam, from a dict of hyper-parameters and two TensorDatasets."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import TensorDataset

from ddpm.diffusion.model import DiffusionModel
from ddpm.run.compute import Compute
from ddpm.run.params import validated
from ddpm.run.tracking.record import stage_run
from ddpm.training.fit import fit
from ddpm.training.loop import Examples
from ddpm.training.params import Training

# What the course's config_dict leaves out: plain Adam on the paper's schedule.
COURSE_DEFAULTS = {
    "prediction": "eps",
    "weighting": "simple",
    "step_sampling": "uniform",
    "schedule": "linear",
    "muon_lr": None,
    "lr_decay": "none",
    "warmup_steps": 0,
    "adam_betas": [0.9, 0.999],
    "ema_decay": 0.0,
    "log_interval": 50,
    "img_log_interval": 200,
    "n_images_to_log": 3,
}
# What the course's config_dict says beside the training itself: it is logged and has no effect.
DESCRIPTIVE = {"image_shape", "hidden_size", "n_images", "n_eval_images"}


def train(
    model: DiffusionModel,
    config_dict: Mapping[str, Any],
    trainset: TensorDataset,
    testset: TensorDataset | None = None,
) -> DiffusionModel:
    """Train `model` by Algorithm 1 with Adam and log to MLflow.

    Args:
        model: A new network; it is trained in place.
        config_dict: Hyper-parameters by the names of `ddpm.training.params.Training`. lr, epochs, batch_size and
            max_steps are required; the others default to `COURSE_DEFAULTS`. Also device and seed. The course's
            image_shape, hidden_size, n_images and n_eval_images are only logged.
        trainset: Its first tensor is images in [-1, 1], (n, channels, height, width).
        testset: The same, for evaluation during training.

    Returns:
        `model`, with its noise_schedule set.

    Raises:
        UserError: A key is unknown or missing, or a value is not allowed.
    """
    own = {"device", "seed"} | DESCRIPTIVE
    params = validated(
        Training, COURSE_DEFAULTS | {k: v for k, v in config_dict.items() if k not in own}, "config_dict"
    )
    compute = Compute(torch.device(config_dict.get("device", "cpu")))
    held_out = None if testset is None else Examples(testset.tensors[0])
    with stage_run("train", config_dict) as log:
        fit(model, params, Examples(trainset.tensors[0]), held_out, config_dict.get("seed", 0), compute, log)
    return model
