"""Recording a sampling chain: x_t and the network's x_0 estimate at every step."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ddpm.images import Decode, as_it_is, denormalize_img, to_uint8
from ddpm.sampling.denoiser import Denoiser


def record(
    chain: Iterable[Float[Tensor, "n ..."]], n_steps: int, denoise: Denoiser, k: int, decode: Decode = as_it_is
) -> tuple[UInt8[Tensor, "n ..."], UInt8[Tensor, "moments k ..."], UInt8[Tensor, "moments k ..."]]:
    """Run a chain, and record its first images.

    Args:
        chain: x_T and the result of each step, as from `sample_steps`.
        n_steps: The number of steps.
        denoise: Estimates x_0 for the first `k` images.
        k: The number of images to record.
        decode: Maps the network's data, such as latents, to images in [-1, 1].

    Returns:
        The samples, x_t of the first `k` from x_T to x_0, and the estimates of x_0 at these steps, as 8-bit images.
    """
    trajectory, estimates = list[Tensor](), list[Tensor]()
    for left, x in zip(range(n_steps, -1, -1), chain, strict=True):
        xt = x[:k]
        trajectory.append(_pixels(decode(xt)))
        estimates.append(_pixels(decode(denoise(xt, left) if k and left else xt)))
    return _pixels(decode(x)), torch.stack(trajectory), torch.stack(estimates)


def _pixels(images: Tensor) -> Tensor:
    return to_uint8(denormalize_img(images))
