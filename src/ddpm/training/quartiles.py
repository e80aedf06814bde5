"""The training loss by quartile of t, since the mean over all timesteps hides the differences."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def tally(losses: Float[Tensor, "b"], num_steps: Int[Tensor, "b"], max_steps: int) -> Float[Tensor, "8"]:
    """Sums and counts of a batch's losses by quarter of 1..T.

    Args:
        losses: The loss of each image.
        num_steps: t of each image.
        max_steps: T.

    Returns:
        The sum of the losses in each quarter, low t first, followed by the number of images in each.
    """
    in_quartile = F.one_hot((num_steps - 1) * 4 // max_steps, 4).to(losses)
    return torch.cat((losses @ in_quartile, in_quartile.sum(0)))


def means(tallies: Iterable[Sequence[float]]) -> list[float | None]:
    """The mean loss of each quartile over several steps of training, or None for a quartile without images."""
    sums = [sum(column) for column in zip(*tallies, strict=True)]
    return [total / n if n else None for total, n in zip(sums[:4], sums[4:], strict=True)]


def named(losses: Sequence[float | None]) -> dict[str, float]:
    """The losses as metrics train/loss_q1 to train/loss_q4, without those that are None."""
    return {f"train/loss_q{i}": loss for i, loss in enumerate(losses, start=1) if loss is not None}
