"""Random holes in images, to train and evaluate inpainting."""

import torch
from jaxtyping import Bool
from torch import Tensor

from ddpm.run.seeding import generator

WHOLE = 0.1  # probability of masking the whole image, so that a network can also generate whole images
SIDES = 0.25, 0.75  # minimum and maximum side of a box, as fractions of the image's


def hole(height: int, width: int, stream: torch.Generator, whole: float = WHOLE) -> Bool[Tensor, "1 h w"]:
    """A hole of one or two boxes, or the whole image.

    Args:
        height: Height of the image.
        width: Width of the image.
        stream: Random generator that draws the boxes.
        whole: Probability of masking the whole image.

    Returns:
        True where pixels are missing.
    """
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    share, *numbers = torch.rand(9, generator=stream).tolist()
    if share < whole:
        return ~mask
    for top, left, tall, wide in (numbers[:4], numbers[4:])[: 1 + (share < (1 + whole) / 2)]:
        sides = [round(size * (SIDES[0] + (SIDES[1] - SIDES[0]) * x)) for size, x in ((height, tall), (width, wide))]
        first = [round((size - side) * x) for size, side, x in ((height, sides[0], top), (width, sides[1], left))]
        mask[:, first[0] : first[0] + sides[0], first[1] : first[1] + sides[1]] = True
    return mask


def holes(n: int, img_shape: tuple[int, ...], seed: int, stream: str, whole: float = WHOLE) -> Bool[Tensor, "n 1 h w"]:
    """A hole for each of n images, which depends only on the seed, the stream and the image's index.

    Args:
        n: Number of images.
        img_shape: (channels, height, width) of the images.
        seed: Seed of the holes.
        stream: Name of the random stream.
        whole: Probability of masking the whole image.
    """
    _, height, width = img_shape
    made = [hole(height, width, generator(seed, f"hole/{stream}", i), whole) for i in range(n)]
    return torch.stack(made) if made else torch.zeros(0, 1, height, width, dtype=torch.bool)
