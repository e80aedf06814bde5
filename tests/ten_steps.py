"""A training of ten steps, for what stops it."""

import torch

from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.sections import Training
from ddpm.run.seeding import generator, global_stream
from ddpm.training.loop import COURSE_DEFAULTS, fit

SHAPE = (1, 4, 4)
STEPS = 10  # 40 images in batches of 8, twice
PARAMS = Training(
    **COURSE_DEFAULTS
    | {"max_steps": 50, "lr": 0.01, "batch_size": 8, "epochs": 2.0, "log_interval": 3, "img_log_interval": 4}
    | {"ema_decay": 0.9, "warmup_steps": 3, "lr_decay": "linear"}
)
ABOUT = {"lr": "0.01"}


def images(n=40, shape=SHAPE):
    return torch.rand(n, *shape, generator=generator(0, "images")) * 2 - 1


def network(kind="tiny"):
    with global_stream(0, "init"):
        if kind == "tiny":
            return TinyDiffuser(TinyDiffuserConfig(SHAPE, 16, 50))
        return Unet(UnetConfig((1, 8, 8), channels=8, dim_mults=(1, 2), groups=2, heads=2, max_steps=50, n_classes=3))


def train(kind="tiny", resume=None, log=None, data=None):
    """(weights, history) of one training."""
    model = network(kind)
    data = images(shape=model.img_shape) if data is None else data
    params = PARAMS if kind == "tiny" else PARAMS.model_copy(update={"muon_lr": 0.02})
    labels = {"labels": torch.arange(len(data)) % 3, "eval_labels": torch.arange(6) % 3}  # for the U-Net
    history = fit(model, params, data, images(6, model.img_shape), seed=3, log=log, resume=resume, **labels)
    return model.state_dict(), history
