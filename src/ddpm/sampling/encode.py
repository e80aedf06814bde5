"""From images to noise: `noise_to` is stochastic (equation 4), `encode` deterministic (DDIM inversion)."""

import torch
from jaxtyping import Float, Integer, Shaped
from torch import Tensor
from tqdm import tqdm

from ddpm.conditioning.guidance import given
from ddpm.diffusion.forward import add_noise
from ddpm.diffusion.model import DiffusionModel, schedule_of
from ddpm.run.compute import Compute
from ddpm.run.progress import hidden
from ddpm.sampling.arguments import (
    check_batch_size,
    checked_step,
    cond_of_images,
    device_of,
    images_of,
    noise_seeds,
    noise_streams,
)
from ddpm.sampling.denoiser import NetworkDenoiser
from ddpm.sampling.levels import levels
from ddpm.sampling.spacing import respace, timesteps


def noise_to(
    model: DiffusionModel,
    images: Shaped[Tensor, "n c h w"],
    num_steps: int,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "n c h w"]:
    """Noise images to a timestep of the model's schedule (Ho et al. 2020, equation 4).

    `sample(model, n, start=noise_to(model, images, t), num_steps=t)` denoises them again, with different details.

    Args:
        model: A trained network.
        images: x_0 in [-1, 1].
        num_steps: t, from 1 to T.
        generator: Seeds the noise of each image, as in `sample`.

    Returns:
        x_t.

    Raises:
        ValueError: An argument is not allowed. The message says what is.
    """
    x0, schedule = images_of(model, images), schedule_of(model)
    t = torch.full((len(x0),), checked_step(num_steps, len(schedule)), device=x0.device)
    streams = noise_streams(noise_seeds(len(x0), generator))[: len(x0)]
    noise = [torch.randn(model.img_shape, generator=stream) for stream in streams]
    return add_noise(x0, torch.stack(noise).to(x0), t, schedule) if noise else x0


def encode(
    model: DiffusionModel,
    images: Shaped[Tensor, "n c h w"],
    *,
    n_steps: int | None = None,
    spacing: str = "even",
    labels: Integer[Tensor, " n"] | None = None,
    batch_size: int = 256,
) -> Float[Tensor, "n c h w"]:
    """Encode images as the x_T that the deterministic sampler maps to them: DDIM inversion (Song et al. 2021, 4.3).

    `sample(model, n, start=encode(model, images), sampler="ddim")` reconstructs the images, more accurately with more
    steps of both. No step is exact, because x_{t+1} is computed with the noise estimated at t + 1 from x_t.

    Args:
        model: A trained network.
        images: x_0 in [-1, 1].
        n_steps: Number of steps, from 1 to T, or None for T.
        spacing: Spacing of the timesteps, a function in `ddpm/sampling/spacing.py`.
        labels: Classes of the images, for a class-conditional model.
        batch_size: Images per batch.

    Returns:
        x_T, approximately standard normal.

    Raises:
        ValueError: An argument is not allowed. The message says what is.
    """
    check_batch_size(batch_size)
    x0, kept = images_of(model, images), timesteps(schedule_of(model), n_steps, spacing)
    cond = cond_of_images(model, x0, labels)
    at, found = levels(respace(schedule_of(model), kept)), [x0[:0]]
    firsts = range(0, len(x0), batch_size)
    with tqdm(total=len(firsts) * (len(kept) - 1), desc="encode", disable=hidden()) as progress:
        for first in firsts:
            chosen = slice(first, first + batch_size)
            denoise = NetworkDenoiser(given(model, cond, chosen), kept, compute=Compute(device_of(model)))
            x = x0[chosen]
            for i in range(len(kept) - 1):
                eps = (x - at.alpha[i + 1] * denoise(x, i + 1)) / at.sigma[i + 1]
                estimate = (x - at.sigma[i] * eps) / at.alpha[i]
                x = at.alpha[i + 1] * estimate + at.sigma[i + 1] * eps
                progress.update()
            found.append(x)
    return torch.cat(found)
