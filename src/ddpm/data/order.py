"""The order of training images: shuffled each epoch, and computable from any step onwards."""

from collections.abc import Iterator
from itertools import count
from math import ceil

import torch
from jaxtyping import Int64
from torch import Tensor

from ddpm.run.seeding import generator


def batches(n_images: int, batch_size: int, seed: int, first: int = 0) -> Iterator[Int64[Tensor, "batch"]]:
    """Yield the indices of the images in each batch, indefinitely.

    Each epoch is a new permutation that depends only on (seed, epoch). Its last batch may be smaller.

    Args:
        n_images: Images per epoch.
        batch_size: Images per batch.
        seed: Seed of the permutations.
        first: The index of the first batch, from 0.
    """
    per_epoch = ceil(n_images / batch_size)
    for epoch in count(first // per_epoch):
        order = torch.randperm(n_images, generator=generator(seed, "order", epoch)).split(batch_size)
        yield from order[first % per_epoch :]
        first = 0
