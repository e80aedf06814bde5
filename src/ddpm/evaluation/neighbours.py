"""The training images nearest to a sample: has the model made something new, or learnt a picture by heart?"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

AROUND = 50  # neighbours that tell how close is close here (Carlini et al. 2023)
BATCH = 256  # queries at a time


@dataclass(frozen=True)
class Neighbours:
    """For each query: which point of the reference is nearest, its Euclidean distance, and its closeness.

    closeness: that distance over the mean distance to the `AROUND` nearest; 0 is a copy, near 1 is like many others.
    The distance alone would call every plain or blurred image a copy: those lie close to much (Carlini et al. 2023).
    """

    index: Int64[Tensor, " n"]
    distance: Float[Tensor, " n"]
    closeness: Float[Tensor, " n"]


def neighbours(queries: Float[Tensor, "n d"], reference: Float[Tensor, "m d"]) -> Neighbours:
    """The nearest neighbours of `queries`; `reference` holds at least two points, not all equal."""
    # Room for the answers first: pieces of them between the batches' large tensors would keep those' memory in parts.
    found = Neighbours(torch.empty(len(queries), dtype=torch.int64), *queries.new_empty(2, len(queries)))
    for rows in torch.arange(len(queries)).split(BATCH):
        found.index[rows], found.distance[rows], found.closeness[rows] = _of_batch(queries[rows], reference)
    return found


def _of_batch(queries: Tensor, reference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    candidates = torch.cdist(queries, reference).topk(min(AROUND, len(reference)), largest=False).indices
    # Once more without the rounding of cdist's matrix product: a copy is at distance 0.
    distances, order = (queries[:, None] - reference[candidates]).norm(dim=-1).sort(stable=True)
    return candidates.gather(1, order)[:, 0], distances[:, 0], distances[:, 0] / distances.mean(dim=1)


def duplicate_rate(threshold: float, closeness: Float[Tensor, " n"]) -> float:
    """Share of images that are at most `threshold` close to their nearest neighbour."""
    return (closeness <= threshold).double().mean().item()
