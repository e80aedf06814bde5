"""The order in which training sees the images: shuffled each epoch, and computable from any step on."""

from collections.abc import Iterator
from itertools import count
from math import ceil

import torch
from jaxtyping import Int64
from torch import Tensor

from ddpm.run.seeding import generator


def batches(n_images: int, batch_size: int, seed: int, first: int = 0) -> Iterator[Int64[Tensor, "batch"]]:
    """Indices of batch number `first`, `first + 1`, and so on without end.

    Each epoch is a fresh permutation that depends on (seed, epoch) alone; its last batch may be smaller.
    """
    per_epoch = ceil(n_images / batch_size)
    for epoch in count(first // per_epoch):
        order = torch.randperm(n_images, generator=generator(seed, "order", epoch)).split(batch_size)
        yield from order[first % per_epoch :]
        first = 0
