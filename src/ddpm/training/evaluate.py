"""The loss of equation 14 on held-out images: its mean over the timesteps, and timestep by timestep."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from ddpm.conditioning.guidance import given
from ddpm.diffusion.forward import add_noise
from ddpm.diffusion.model import DiffusionModel, evaluation_mode, schedule_of
from ddpm.diffusion.posterior import target
from ddpm.run.compute import Compute
from ddpm.run.seeding import generator
from ddpm.training.loop import Examples

BATCH = 256  # images at a time


def simple_loss(model: DiffusionModel, held_out: Examples, seed: int, compute: Compute = Compute()) -> float:
    """Mean squared error of `model.prediction`, with the timesteps of the images spread evenly over 1..T.

    Images, timesteps and noise are the same at every call with one seed, so two calls differ by the weights alone.

    Args:
        model: A network with its noise_schedule.
        held_out: Images in [-1, 1].
        seed: Of the noise.
        compute: The device and its precision.

    Raises:
        ValueError: The model has no noise_schedule.
    """
    num_steps = torch.linspace(1, len(schedule_of(model)), len(held_out.images)).round().long()
    return _losses(model, held_out, num_steps, generator(seed, "eval"), compute).mean().item()


def loss_by_timestep(
    model: DiffusionModel, held_out: Examples, n_images: int, seed: int, compute: Compute = Compute()
) -> list[float]:
    """The same error at each t = 1..T, each with noise of its own.

    Args:
        model: A network with its noise_schedule.
        held_out: Images in [-1, 1].
        n_images: How many are used at each t, from the first on; they repeat if there are fewer.
        seed: Of the noise.
        compute: The device and its precision.

    Returns:
        The mean squared errors of t = 1..T.
    """
    chosen = torch.arange(n_images) % len(held_out.images)
    own = Examples(held_out.images[chosen], None if held_out.cond is None else held_out.cond[chosen])
    losses = []
    for t in range(1, len(schedule_of(model)) + 1):
        stream = generator(seed, "loss_by_timestep", t)
        losses.append(_losses(model, own, torch.full((n_images,), t), stream, compute).mean().item())
    return losses


def _losses(
    model: DiffusionModel, held_out: Examples, num_steps: Int64[Tensor, "n"], stream: torch.Generator, compute: Compute
) -> Float[Tensor, "n"]:
    losses, schedule = [], schedule_of(model)
    with torch.no_grad(), evaluation_mode(model):
        for first in range(0, len(held_out.images), BATCH):
            batch = slice(first, first + BATCH)
            x0, t = held_out.images[batch], num_steps[batch]
            eps = torch.randn(x0.shape, generator=stream)
            x0, t, eps = x0.to(compute.device), t.to(compute.device), eps.to(compute.device)
            with compute.autocast():
                predicted = given(model, held_out.cond, batch)(add_noise(x0, eps, t, schedule), t)
            wanted = target(model.prediction, x0, eps, t, schedule)
            losses.append(F.mse_loss(predicted.float(), wanted, reduction="none").mean(dim=(1, 2, 3)))
    return torch.cat(losses)
