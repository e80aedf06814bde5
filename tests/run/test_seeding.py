"""Named streams: reproducible, unrelated to each other, and without effect on the global state."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm.run.seeding import derive_seed, generator, global_stream


@given(st.integers(0, 2**63 - 1), st.text(max_size=20), st.integers(0, 10**9))
def test_generator_is_deterministic(seed, stream, index):
    draws = [torch.randn(4, generator=generator(seed, stream, index)) for _ in range(2)]
    assert torch.equal(*draws)


def test_streams_are_distinct_and_uncorrelated():
    names = [(seed, stream, index) for seed in range(5) for stream in ("a", "b", "a/1") for index in range(20)]
    assert len({derive_seed(*name) for name in names}) == len(names)
    x = torch.stack([torch.randn(1000, generator=generator(*name)) for name in names])
    correlation = torch.corrcoef(x).fill_diagonal_(0)
    # The largest of 44,850 pairs exceeds 5 standard errors, 5 / sqrt(1000), with p = 0.03. The rest is margin.
    assert correlation.abs().max() < 5.5 / 1000**0.5


def test_global_stream_is_deterministic_and_restores_rng_state():
    before = torch.get_rng_state()
    with global_stream(0, "init"):
        first = torch.nn.Linear(3, 3).weight
    with global_stream(0, "init"):
        again = torch.nn.Linear(3, 3).weight
    assert torch.equal(first, again)
    assert torch.equal(before, torch.get_rng_state())


def test_concatenated_names_are_distinct():
    """As 1, "a" and 11 are from 1, "a1" and 1."""
    names = [(1, "a", 11), (1, "a1", 1), (11, "", 1), (1, "1", 1), (1, "", 11)]
    assert len({derive_seed(*name) for name in names}) == len(names)


def test_global_stream_draws_what_its_generator_draws():
    for name in ((0, "init", 0), (1, "init", 0), (0, "dropout", 0), (0, "init", 7)):
        with global_stream(*name):
            drawn = torch.randn(4)
        assert torch.equal(drawn, torch.randn(4, generator=generator(*name)))
