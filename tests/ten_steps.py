"""A training run of ten steps, for tests that stop it."""

import torch

from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.run.seeding import generator, global_stream
from ddpm.training.course import COURSE_DEFAULTS
from ddpm.training.fit import fit
from ddpm.training.loop import Examples
from ddpm.training.params import Training

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
        labels = {"name": "labels", "dropout": 0.1}
        config = UnetConfig((1, 8, 8), 8, (1, 2), groups=2, heads=2, max_steps=50, conditioning=labels, n_classes=3)
        return Unet(config)


def train(kind="tiny", resume=None, log=None, data=None):
    """(weights, history) of one training run."""
    model = network(kind)
    data = images(shape=model.img_shape) if data is None else data
    params = PARAMS if kind == "tiny" else PARAMS.model_copy(update={"muon_lr": 0.02})
    labels = [None, None] if kind == "tiny" else [torch.arange(n, dtype=torch.uint8) % 3 for n in (len(data), 6)]
    held_out = Examples(images(6, model.img_shape), labels[1])
    history = fit(model, params, Examples(data, labels[0]), held_out, seed=3, log=log, resume=resume)
    return model.state_dict(), history
