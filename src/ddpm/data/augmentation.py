"""Augmentation of training images: horizontal flips and small shifts.

It makes many images of few. What it makes is learnt too: a network that sees flipped images draws some (Karras et al.
2022, appendix F.2), so both are off by default.
"""

import torch
from jaxtyping import Shaped
from torch import Tensor


def augmented(
    images: Shaped[Tensor, "b c h w"], flip: bool, max_shift: int, stream: torch.Generator
) -> Shaped[Tensor, "b c h w"]:
    """Each image mirrored left to right or not, and shifted, both at random.

    Args:
        images: In any range, on any device.
        flip: Mirror half of them.
        max_shift: Pixels by which an image moves at most, across and down. Its edge is repeated.
        stream: Of the choices.
    """
    b, _, h, w = images.shape
    down, across = (torch.randint(-max_shift, max_shift + 1, (b, 1), generator=stream) for _ in range(2))
    mirrored = torch.randint(2, (b, 1), generator=stream).bool() & flip
    rows = (torch.arange(h) + down).clamp(0, h - 1)
    columns = (torch.arange(w) + across).clamp(0, w - 1)
    columns = torch.where(mirrored, columns.flip(1), columns)
    which, rows, columns = (x.to(images.device) for x in (torch.arange(b), rows, columns))
    moved = images[which[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return moved.movedim(3, 1).contiguous()
