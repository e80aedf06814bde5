"""Images out of a trained model: pure noise, one stream an image, and the sampler that takes it away."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ddpm.run.compute import Compute
from ddpm.diffusion.posterior import Variance
from ddpm.networks.model import DiffusionModel
from ddpm.sampling.samplers.ancestral import ancestral
from ddpm.sampling.samplers.ddim import ddim
from ddpm.sampling.denoiser import denoiser, variance_denoiser
from ddpm.sampling.samplers.dpm_solver import dpm_solver
from ddpm.sampling.samplers.heun import heun
from ddpm.sampling.spacing import respace, timesteps
from ddpm.sampling.samplers.unipc import unipc

# Each is called with a denoiser, x_T and a schedule, of which it takes every step; and with its own options.
SAMPLERS: dict[str, Callable[..., Iterator[Tensor]]] = {
    "ancestral": ancestral,
    "ddim": ddim,
    "dpmpp_2m": partial(dpm_solver, order=2),
    "dpmpp_3m": partial(dpm_solver, order=3),
    "unipc": unipc,
    "heun": heun,
}


def sample_steps(
    model: DiffusionModel,
    noise_streams: Sequence[torch.Generator],
    kept: Int[Tensor, "stops"] | None = None,
    sampler: str = "ancestral",
    variance: Variance = "fixed_large",
    eta: float = 0.0,
    clip_sample: bool = False,
    compute: Compute = Compute(),
    start: Float[Tensor, "n c h w"] | None = None,
) -> Iterator[Float[Tensor, "n c h w"]]:
    """Yield pure noise and then what each step of `sampler` leaves: n + 1 batches, one image a noise stream.

    Image i takes its noise from stream i alone, so it does not depend on the images beside it.
    kept: where the chain stops, as `respacing.timesteps` gives it; by default at all of 0..T. sampler: a key of
    SAMPLERS; variance: of "ancestral"; eta: of "ddim"; clip_sample: hold each x0 estimate to [-1, 1]. start: x_t
    at the last step of `kept`, to go on from instead of pure noise. ValueError for a model without noise_schedule, and
    for variance "learned" of one that has learned none.
    """
    schedule = model.noise_schedule
    if schedule is None:
        raise ValueError("the model has no noise_schedule; train it, or set the schedule it was trained on")
    if kept is None:
        kept = timesteps(len(schedule), len(schedule))
    noise = partial(_randn, model.img_shape, noise_streams, compute.device)
    options: dict[str, dict[str, Any]] = {
        "ancestral": {"noise": noise, "variance": variance},
        "ddim": {"noise": noise, "eta": eta},
    }
    x = noise() if start is None else start.to(compute.device)
    yield x
    make = variance_denoiser if sampler == "ancestral" else denoiser
    denoise = make(model, schedule, kept, compute, clip_sample)
    yield from SAMPLERS[sampler](denoise, x, respace(schedule, kept), **options.get(sampler, {}))


def sample(
    model: DiffusionModel,
    n_samples: int,
    return_all_steps: bool = False,
    generator: torch.Generator | None = None,
    variance: Variance = "fixed_large",
) -> Float[Tensor, "n c h w"] | list[Float[Tensor, "n c h w"]]:
    """Draw images by Algorithm 2, on the model's device.

    generator: where each image's noise stream gets its seed. Without one, torch's global state is read but not
    advanced: call `torch.manual_seed` or pass a generator for other images.
    Returns images of about [-1, 1], not clamped; with `return_all_steps`, the list of T + 1 batches from pure noise
    to the result. Raises ValueError for a model without noise_schedule or a negative n_samples.
    """
    if n_samples < 0:
        raise ValueError(f"n_samples is {n_samples}; it cannot be negative")
    if generator is None:
        generator = torch.Generator()
        generator.set_state(torch.get_rng_state())
    seeds = torch.randint(2**63 - 1, (n_samples,), generator=generator, device=generator.device).tolist()
    streams = [torch.Generator().manual_seed(seed) for seed in seeds]
    device = next(model.parameters(), torch.empty(0)).device
    steps = sample_steps(model, streams, variance=variance, compute=Compute(device))
    return list(steps) if return_all_steps else deque(steps, maxlen=1).pop()


def _randn(shape: tuple[int, ...], streams: Sequence[torch.Generator], device: torch.device) -> Tensor:
    """One standard normal image a stream, drawn on the CPU: the same noise whatever the device."""
    if not streams:
        return torch.empty(0, *shape, device=device)
    return torch.stack([torch.randn(shape, generator=stream) for stream in streams]).to(device)
