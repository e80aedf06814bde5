"""The loss of equation 14 on held-out images: averaged over timesteps, and by timestep."""

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from ddpm.conditioning.guidance import given
from ddpm.diffusion.forward import add_noise
from ddpm.diffusion.model import DiffusionModel, evaluation_mode, schedule_of
from ddpm.diffusion.posterior import target
from ddpm.run.compute import Compute
from ddpm.run.processes import shared
from ddpm.run.seeding import generator
from ddpm.training.loop import Examples

BATCH = 128  # images per batch


def simple_loss(model: DiffusionModel, held_out: Examples, seed: int, compute: Compute = Compute()) -> float:
    """Mean squared error of `model.prediction`, with the timesteps of the images spread evenly over 1..T.

    For a given seed, timesteps and noise are the same in every call, so two calls differ only by the weights.

    Args:
        model: A network with its noise_schedule.
        held_out: Images in [-1, 1].
        seed: Seed of the noise.
        compute: Device and precision.

    Raises:
        ValueError: The model has no noise_schedule.
    """
    num_steps = torch.linspace(1, len(schedule_of(model)), len(held_out.images)).round().long()
    return _losses(model, held_out, num_steps, generator(seed, "eval"), compute).mean().item()


def loss_by_timestep(
    model: DiffusionModel, held_out: Examples, n_images: int, seed: int, compute: Compute = Compute()
) -> list[float]:
    """Mean squared error of `model.prediction` at each t = 1..T, with independent noise.

    Args:
        model: A network with its noise_schedule.
        held_out: Images in [-1, 1].
        n_images: Number of images at each t, from the first on. They repeat if there are fewer.
        seed: Seed of the noise.
        compute: The device and its precision.

    Returns:
        The mean squared errors of t = 1..T.
    """
    chosen = torch.arange(n_images) % len(held_out.images)
    own = Examples(held_out.images[chosen], None if held_out.cond is None else held_out.cond[chosen])

    def loss_at(t: int) -> float:
        stream = generator(seed, "loss_by_timestep", t)
        return _losses(model, own, torch.full((n_images,), t), stream, compute).mean().item()

    return shared([partial(loss_at, t) for t in range(1, len(schedule_of(model)) + 1)])


def _losses(
    model: DiffusionModel, held_out: Examples, num_steps: Int64[Tensor, "n"], stream: torch.Generator, compute: Compute
) -> Float[Tensor, "n"]:
    noise, schedule = torch.randn(held_out.images.shape, generator=stream), schedule_of(model)

    def losses_of(batch: slice) -> Float[Tensor, "b"]:
        x0, t, eps = (tensor[batch].to(compute.device) for tensor in (held_out.images, num_steps, noise))
        with compute.autocast():
            predicted = given(model, held_out.cond, batch)(add_noise(x0, eps, t, schedule), t)
        wanted = target(model.prediction, x0, eps, t, schedule)
        return F.mse_loss(predicted.float(), wanted, reduction="none").mean(dim=(1, 2, 3)).cpu()

    batches = [slice(first, first + BATCH) for first in range(0, len(held_out.images), BATCH)]
    with torch.no_grad(), evaluation_mode(model):
        return torch.cat(shared([partial(losses_of, batch) for batch in batches]))
