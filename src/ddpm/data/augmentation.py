"""Augmentation of training images: horizontal flips and small shifts.

It helps against overfitting on few images, but it leaks: a network that is trained on flipped images generates flipped
images. So both are off by default. A network that is conditioned on the augmentation can generate images without it
(Karras et al. 2022, appendix F.2).
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

N_MOVES = 3  # values that describe how an image was moved


def augmented(
    images: Shaped[Tensor, "b c h w"], flip: bool, max_shift: int, stream: torch.Generator
) -> tuple[Shaped[Tensor, "b c h w"], Float[Tensor, "b moves"]]:
    """Randomly flip and shift each image.

    Args:
        images: Images in any range, on any device.
        flip: Flip horizontally with probability 1/2.
        max_shift: Maximum shift in pixels, horizontally and vertically. Edge pixels are replicated.
        stream: Random generator.

    Returns:
        The images, and how each was moved, as network input: 1 if it was flipped, else 0, and its shifts down and right
        as fractions of `max_shift`, from -1 to 1. All are 0 for an image that was not moved.
    """
    b, _, h, w = images.shape
    down, across = (torch.randint(-max_shift, max_shift + 1, (b, 1), generator=stream) for _ in range(2))
    mirrored = torch.randint(2, (b, 1), generator=stream).bool() & flip
    rows = (torch.arange(h) + down).clamp(0, h - 1)
    columns = (torch.arange(w) + across).clamp(0, w - 1)
    columns = torch.where(mirrored, w - 1 - columns, columns)
    which, rows, columns = (x.to(images.device) for x in (torch.arange(b), rows, columns))
    moved = images[which[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    moves = torch.cat((mirrored, -down / max(max_shift, 1), -across / max(max_shift, 1)), dim=1)
    return moved.movedim(3, 1).contiguous(), moves.to(images.device)
