"""All randomness of the project: (seed, stream, index) -> a `torch.Generator`.

Nothing here keeps state, so neither the order of work nor an interruption can change a result: step 7 of the training
noise is the same whether steps 1 to 6 ran before it in this process or not.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, stream: str, index: int = 0) -> int:
    """A 64-bit seed for one draw of a stream.

    Args:
        seed: The seed that it is derived from.
        stream: The stream's name; other names give unrelated seeds.
        index: Which draw.
    """
    digest = hashlib.blake2b(f"{seed}/{stream}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def generator(seed: int, stream: str, index: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """A new generator for one draw of a stream, seeded by `derive_seed`."""
    return torch.Generator(device).manual_seed(derive_seed(seed, stream, index))


@contextmanager
def global_stream(seed: int, stream: str, index: int = 0) -> Iterator[None]:
    """Seed torch's global state by `derive_seed` for a block: for initialisers and dropout, which take no generator."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, stream, index))
        yield
