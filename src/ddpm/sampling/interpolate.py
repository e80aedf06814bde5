"""Interpolation between images in the latent space of a timestep (Ho et al. 2020, section 4.4)."""

import torch
from jaxtyping import Float, Integer, Shaped
from torch import Tensor

from ddpm.diffusion.model import DiffusionModel, schedule_of
from ddpm.run.compute import Compute
from ddpm.sampling.arguments import cond_of_images, device_of, images_of, noise_seeds, noise_streams, steps_below
from ddpm.sampling.chain import Chain


def interpolate(
    model: DiffusionModel,
    first: Float[Tensor, "c h w"],
    second: Shaped[Tensor, "*any"],
    n: int = 9,
    num_steps: int | None = None,
    generator: torch.Generator | None = None,
    *,
    n_steps: int | None = None,
    spacing: str = "even",
    labels: Integer[Tensor, " 2"] | None = None,
    clip_sample: bool | float = False,
) -> Float[Tensor, "n c h w"]:
    """Noise two images to timestep t, interpolate x_t linearly, and denoise the results by Algorithm 2.

    Both images share one noise, and so do all denoising chains, so only the weights differ.

    Args:
        model: A trained network.
        first: An image in [-1, 1].
        second: Another image in [-1, 1].
        n: Number of interpolated images, at least 2, with weights of the second image from 0 to 1.
        num_steps: t, from 1 to T: the larger, the coarser the features that change. None for T / 2.
        generator: Seeds the noise, as in `sample`.
        n_steps: Number of steps of a whole chain from T, from 1 to T, or None for T.
        spacing: Spacing of the timesteps, a function in `ddpm/sampling/spacing.py`.
        labels: Classes of the two images, for a class-conditional model.
        clip_sample: Whether to clip each x_0 estimate to [-1, 1], or a quantile between 0 and 1, such as 0.995, for
            dynamic thresholding (`ddpm.sampling.clipping`).

    Returns:
        (n, c, h, w) images of about [-1, 1], not clamped.

    Raises:
        ValueError: An argument is not allowed. The message says what is.
    """
    if n < 2:
        raise ValueError(f"n is {n}; it must be at least 2")
    if first.shape != second.shape:
        raise ValueError(f"first has shape {tuple(first.shape)}, second {tuple(second.shape)}; they must be equal")
    ends = images_of(model, torch.stack((first, second)), "the pair of images")
    kept = steps_below(
        model, max(1, len(schedule_of(model)) // 2) if num_steps is None else num_steps, n_steps, spacing
    )
    weights, (of_images, of_steps) = torch.linspace(0, 1, n), noise_seeds(2, generator)
    chain = Chain(model, kept, "fixed_small", clip_sample, Compute(device_of(model)))
    cond = cond_of_images(model, ends, labels)
    if cond is not None:
        chain = chain.given(model.conditioning.mix(cond[:1], cond[1:], weights))
    noise = torch.randn(model.img_shape, generator=torch.Generator().manual_seed(of_images)).to(ends)
    return chain.interpolate(ends[0], ends[1], weights, len(kept) - 1, noise, noise_streams([of_steps] * n))
