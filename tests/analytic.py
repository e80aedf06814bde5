"""Models and data with known exact solutions, to compare the samplers with."""

from math import prod

import torch
from torch import nn

from ddpm.conditioning.kinds.labels import Labels
from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.run.seeding import generator

SHAPE = (3, 4, 5)


class Linear(DiffusionModel):
    """a x + b t: simple enough to follow by hand."""

    def __init__(self, max_steps=20, a=0.3, b=0.01, prediction="eps"):
        super().__init__()
        self.img_shape = SHAPE
        self.a = nn.Parameter(torch.tensor(a))
        self.b = b
        self.noise_schedule = NoiseSchedule(max_steps)
        self.prediction = prediction

    def forward(self, images, num_steps):
        return self.a * images + self.b * num_steps.reshape(-1, 1, 1, 1)


class Gaussian:
    """x0 ~ N(mu, s^2 I): the exact estimate of x0, and the exact probability flow, along which z stays.

    z is evenly spaced from -4 to 4: all of a normal distribution but 6e-5 of it.
    """

    def __init__(self, schedule, mu=0.4, s=0.5):
        self.mu, self.s = mu, s
        self.alpha_bars = [1.0, *schedule.alpha_bars.tolist()]
        self.z = torch.linspace(-4, 4, 2 * prod(SHAPE), dtype=torch.float64).reshape(2, *SHAPE)

    def flow(self, t):
        alpha_bar = self.alpha_bars[t]
        return alpha_bar**0.5 * self.mu + (alpha_bar * self.s**2 + 1 - alpha_bar) ** 0.5 * self.z

    def x0(self, x, t):
        alpha_bar = self.alpha_bars[t]
        gain = self.s**2 * alpha_bar**0.5 / (alpha_bar * self.s**2 + 1 - alpha_bar)
        return self.mu + gain * (x - alpha_bar**0.5 * self.mu)


def streams(n):
    return [generator(0, "image", i) for i in range(n)]


class Known(DiffusionModel):
    """x_0 is known from the class: all of its pixels are `values[label]`, or 0 without a label."""

    def __init__(self, *values, max_steps=20):
        super().__init__()
        self.img_shape, self.prediction, self.noise_schedule = SHAPE, "x0", NoiseSchedule(max_steps)
        self.conditioning = Labels(SHAPE, len(values), 1, dropout=0.1)
        self.values = torch.tensor([*values, 0.0])

    def forward(self, images, num_steps, cond):  # noqa: ARG002
        return self.values[cond].to(images).reshape(-1, 1, 1, 1).expand_as(images)


class Told(DiffusionModel):
    """x_0 is its conditioning, so it makes no error."""

    class Conditioning(nn.Module):
        def encode(self, images, labels):  # noqa: ARG002
            return images

    def __init__(self, img_shape, schedule):
        super().__init__()
        self.img_shape, self.prediction, self.noise_schedule = img_shape, "x0", schedule
        self.conditioning = self.Conditioning()

    def forward(self, images, num_steps, cond):  # noqa: ARG002
        return cond.to(images)
