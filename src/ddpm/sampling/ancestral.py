"""Algorithm 2: from pure noise to an image, one step of the reverse chain at a time (Ho et al. 2020)."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ddpm.compute import Compute
from ddpm.diffusion.posterior import posterior_mean, posterior_variance, to_x0
from ddpm.models.base import DiffusionModel, evaluation_mode

Variance = Literal["fixed_large", "fixed_small"]


def ancestral_steps(
    model: DiffusionModel,
    noise_streams: Sequence[torch.Generator],
    variance: Variance = "fixed_large",
    compute: Compute = Compute(),
    clip_sample: bool = False,
) -> Iterator[Float[Tensor, "n c h w"]]:
    """Yield x_T (pure noise), x_{T-1}, ..., x_0: T + 1 batches, one image a noise stream.

    Image i takes its noise from stream i alone, so it does not depend on the images beside it.
    variance: sigma_t^2 = beta_t ("fixed_large") or beta_tilde_t of equation 7 ("fixed_small"), section 3.2.
    clip_sample: hold each x0 estimate to [-1, 1], where the data lie, as the paper's own code does.
    No noise is added at t = 1. The model's mode is put back after every step.
    """
    schedule = model.noise_schedule
    if schedule is None:
        raise ValueError("the model has no noise_schedule; train it, or set the schedule it was trained on")
    x = _randn(model.img_shape, noise_streams, compute.device)
    yield x
    for t in range(len(schedule), 0, -1):
        steps = torch.full((len(x),), t, device=compute.device)
        with torch.no_grad(), evaluation_mode(model), compute.autocast():
            predicted = model(x, steps).to(x.dtype)
        x0 = to_x0(model.prediction, predicted, x, steps, schedule)
        x = posterior_mean(x0.clamp(-1, 1) if clip_sample else x0, x, steps, schedule)
        if t > 1:
            sigma2 = schedule.beta(t) if variance == "fixed_large" else posterior_variance(t, schedule)
            x = x + sigma2.sqrt().to(x) * _randn(model.img_shape, noise_streams, compute.device)
        yield x


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
    steps = ancestral_steps(model, streams, variance, Compute(device))
    return list(steps) if return_all_steps else deque(steps, maxlen=1).pop()


def _randn(shape: tuple[int, ...], streams: Sequence[torch.Generator], device: torch.device) -> Tensor:
    """One standard normal image a stream, drawn on the CPU: the same noise whatever the device."""
    if not streams:
        return torch.empty(0, *shape, device=device)
    return torch.stack([torch.randn(shape, generator=stream) for stream in streams]).to(device)
