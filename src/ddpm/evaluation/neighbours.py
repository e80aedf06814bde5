"""The training images nearest to each sample, to detect memorisation (Carlini et al. 2023)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

AROUND = 50  # neighbours whose mean distance normalises the closeness
BATCH = 256  # queries per batch


@dataclass(frozen=True)
class Neighbours:
    """The nearest neighbour of each query.

    Attributes:
        index: Its index in the reference.
        distance: Its Euclidean distance.
        closeness: That distance divided by the mean distance to the `AROUND` nearest: 0 for a copy, near 1 for an image
            that resembles many others. By distance alone, blurred images would count as copies, since they are close
            to many.
    """

    index: Int64[Tensor, " n"]
    distance: Float[Tensor, " n"]
    closeness: Float[Tensor, " n"]


def neighbours(queries: Float[Tensor, "n d"], reference: Float[Tensor, "m d"]) -> Neighbours:
    """Find the nearest neighbours.

    Args:
        queries: Points, such as samples.
        reference: At least two points, not all equal, such as training images.
    """
    # Allocated first: between the large tensors of the batches, the results would fragment memory.
    found = Neighbours(torch.empty(len(queries), dtype=torch.int64), *queries.new_empty(2, len(queries)))
    for rows in torch.arange(len(queries)).split(BATCH):
        found.index[rows], found.distance[rows], found.closeness[rows] = _of_batch(queries[rows], reference)
    return found


def _of_batch(queries: Tensor, reference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    candidates = torch.cdist(queries, reference).topk(min(AROUND, len(reference)), largest=False).indices
    # Recomputed without the rounding errors of cdist's matrix product: a copy is at distance 0.
    distances, order = (queries[:, None] - reference[candidates]).norm(dim=-1).sort(stable=True)
    return candidates.gather(1, order)[:, 0], distances[:, 0], distances[:, 0] / distances.mean(dim=1)
