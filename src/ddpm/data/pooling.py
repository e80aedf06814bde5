"""Images at a lower resolution, by average pooling.

Averaging blocks of pixels preserves brightness and limits aliasing. It is linear in x_0, so the posterior given a
low-resolution image is known exactly for Gaussian data.
"""

from dataclasses import replace

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddpm.data.dataset import ImageDataset
from ddpm.images import denormalize_img, to_uint8


def pooled_shape(img_shape: tuple[int, ...], factor: int) -> tuple[int, ...]:
    """(channels, height, width) of images at a lower resolution.

    Args:
        img_shape: (channels, height, width).
        factor: Side of the pooled blocks in pixels.

    Raises:
        ValueError: `factor` does not divide height and width.
    """
    channels, height, width = img_shape
    if height % factor or width % factor:
        raise ValueError(f"factor is {factor}; it must divide the images' height and width, {height} and {width}")
    return channels, height // factor, width // factor


def pooled(images: Float[Tensor, "n c h w"], factor: int) -> Float[Tensor, "n c h2 w2"]:
    """The mean of each block of `factor` x `factor` pixels.

    Raises:
        ValueError: `factor` does not divide height and width.
    """
    pooled_shape(tuple(images.shape[1:]), factor)
    return F.avg_pool2d(images, factor)


def pooled_dataset(dataset: ImageDataset, factor: int) -> ImageDataset:
    """A data set at a lower resolution, rounded to 8 bits.

    Raises:
        ValueError: `factor` does not divide height and width.
    """
    return replace(dataset, images=to_uint8(denormalize_img(pooled(dataset.x0, factor))))
