"""Shuffling: every image once per epoch, and batches that do not depend on where the iteration starts."""

from itertools import islice
from math import ceil

import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm.data.order import batches

SIZES = (st.integers(1, 50), st.integers(1, 60))


@given(*SIZES)
def test_epoch_contains_every_image_once(n, batch_size):
    per_epoch = ceil(n / batch_size)
    epochs = [list(islice(batches(n, batch_size, 0, first), per_epoch)) for first in (0, per_epoch)]
    for epoch in epochs:
        assert torch.cat(epoch).sort().values.tolist() == list(range(n))
        assert all(len(batch) == batch_size for batch in epoch[:-1])
    if n > 20:
        assert not torch.equal(torch.cat(epochs[0]), torch.cat(epochs[1]))


@given(*SIZES, st.integers(0, 40))
def test_starting_later_yields_the_same_batches(n, batch_size, first):
    whole = list(islice(batches(n, batch_size, 3), first + 5))
    later = list(islice(batches(n, batch_size, 3, first), 5))
    assert all(torch.equal(a, b) for a, b in zip(whole[first:], later, strict=True))
