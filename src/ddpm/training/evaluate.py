"""The loss (equation 14) on images that the network does not train on: its mean, and step by step."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from ddpm.run.compute import Compute
from ddpm.diffusion.forward import add_noise
from ddpm.diffusion.posterior import target
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.networks.model import DiffusionModel, evaluation_mode, labelled
from ddpm.run.seeding import generator


def simple_loss(
    model: DiffusionModel,
    images: Float[Tensor, "n c h w"],
    schedule: NoiseSchedule,
    seed: int,
    compute: Compute = Compute(),
    labels: Shaped[Tensor, " n"] | None = None,
) -> float:
    """Mean squared error of the prediction (of eps, x0 or v: `model.prediction`), the steps spread evenly over 1..T.

    The same images, steps and noise at every call with one seed, so that two calls differ by the weights alone.
    labels: what the images show, for a model that must be told.
    """
    num_steps = torch.linspace(1, len(schedule), len(images)).round().long()
    return _losses(model, images, num_steps, schedule, generator(seed, "eval"), compute, labels).mean().item()


def loss_by_timestep(
    model: DiffusionModel,
    images: Float[Tensor, "n c h w"],
    schedule: NoiseSchedule,
    per_step: int,
    seed: int,
    compute: Compute = Compute(),
    labels: Shaped[Tensor, " n"] | None = None,
) -> list[float]:
    """The same error for each t = 1..T alone, over the first `per_step` images: they differ by t and noise only."""
    losses = []
    chosen = torch.arange(per_step) % len(images)
    for t in range(1, len(schedule) + 1):
        num_steps = torch.full((per_step,), t)
        noise_stream = generator(seed, "loss_by_timestep", t)
        own = None if labels is None else labels[chosen]
        losses.append(_losses(model, images[chosen], num_steps, schedule, noise_stream, compute, own).mean().item())
    return losses


def _losses(
    model: DiffusionModel,
    images: Float[Tensor, "n c h w"],
    num_steps: Int64[Tensor, "n"],
    schedule: NoiseSchedule,
    noise_stream: torch.Generator,
    compute: Compute,
    labels: Shaped[Tensor, " n"] | None,
) -> Float[Tensor, "n"]:
    losses = []
    with torch.no_grad(), evaluation_mode(model):
        for first in range(0, len(images), 256):
            batch = slice(first, first + 256)
            x0, t = images[batch], num_steps[batch]
            eps = torch.randn(x0.shape, generator=noise_stream)
            x0, t, eps = x0.to(compute.device), t.to(compute.device), eps.to(compute.device)
            with compute.autocast():
                predicted = labelled(model, labels, batch)(add_noise(x0, eps, t, schedule), t)
            wanted = target(model.prediction, x0, eps, t, schedule)
            losses.append(F.mse_loss(predicted.float(), wanted, reduction="none").mean(dim=(1, 2, 3)))
    return torch.cat(losses)
