"""Augmentation of training images: horizontal flips and small shifts.

It makes many images of few. What it makes is learnt too: a network that sees flipped images draws some, so both are off
by default. A network that is told how each image was moved can draw images that were not (Karras et al. 2022, appendix
F.2).
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

N_MOVES = 3  # numbers that say how an image was moved


def augmented(
    images: Shaped[Tensor, "b c h w"], flip: bool, max_shift: int, stream: torch.Generator
) -> tuple[Shaped[Tensor, "b c h w"], Float[Tensor, "b moves"]]:
    """Each image mirrored left to right or not, and shifted, both at random.

    Args:
        images: In any range, on any device.
        flip: Mirror half of them.
        max_shift: Pixels by which an image moves at most, across and down. Its edge is repeated.
        stream: Of the choices.

    Returns:
        The images, and how each was moved, as networks are told it: 1 if it was mirrored, and its shifts down and
        across as shares of `max_shift`. All are 0 for an image that was not moved.
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
