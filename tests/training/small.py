"""Networks and hyper-parameters small enough to check a training run by hand."""

import torch
from torch import nn

from ddpm.diffusion.model import DiffusionModel
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.run.compute import Compute
from ddpm.run.seeding import generator, global_stream
from ddpm.training.course import COURSE_DEFAULTS
from ddpm.training.loop import Examples, start_training, training_steps
from ddpm.training.params import Training

SHAPE = (3, 4, 5)


class Scale(DiffusionModel):
    """Predicts w x: one weight."""

    def __init__(self, w=0.0):
        super().__init__()
        self.img_shape = (1, 2, 2)
        self.w = nn.Parameter(torch.tensor(w))

    def forward(self, images, num_steps):  # noqa: ARG002
        return self.w * images


class Watching(Scale):
    """Records the x_t and t of each step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images, num_steps):
        self.seen.append((images.detach().clone(), num_steps.clone()))
        return super().forward(images, num_steps)


class Recorder:
    """A log that stores what it receives, and uses torch's global RNG, as nothing else may."""

    def __init__(self):
        self.metrics, self.images = [], []

    def log_metrics(self, metrics, step):
        torch.rand(1)
        self.metrics.append((step, dict(metrics)))

    def log_image(self, image, key, step):
        self.images.append((step, key, image))


def params(**changes):
    small = {"max_steps": 50, "lr": 0.01, "batch_size": 8, "epochs": 2.0, "log_interval": 1}
    return Training(**{**COURSE_DEFAULTS, **small, **changes})


def tiny(seed=0):
    with global_stream(seed, "init"):
        return TinyDiffuser(TinyDiffuserConfig(SHAPE, 128, 50))


def images(n, name="images", shape=SHAPE):
    return torch.rand(n, *shape, generator=generator(0, name)) * 2 - 1


def greys(n, first=0, shape=(1, 2, 2)):
    """8-bit images of one grey each: first, first + 1, ..."""
    return torch.arange(first, first + n, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, *shape).contiguous()


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def train(model, own, data, seed=0, cond=None):
    """All steps, and the state after them."""
    state = start_training(model, own, Compute())
    return list(training_steps(state, own, Examples(data, cond), seed)), state
