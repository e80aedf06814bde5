"""All randomness of the project: (seed, stream, index) -> a `torch.Generator`.

Nothing here keeps state, so neither the order of work nor an interruption can change a result: the training noise of
step 7 is the same whether or not steps 1 to 6 ran in this process.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, stream: str, index: int = 0) -> int:
    """A 64-bit seed for one draw of a stream.

    Args:
        seed: The root seed.
        stream: The stream's name. Different names give unrelated seeds.
        index: The index of the draw.
    """
    digest = hashlib.blake2b(f"{seed}/{stream}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def generator(seed: int, stream: str, index: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """A new generator for one draw of a stream, seeded by `derive_seed`.

    Args:
        seed: The seed in params.yaml.
        stream: What is drawn, such as "noise".
        index: The index of the draw.
        device: The generator's device. Different types of device draw different numbers.
    """
    return torch.Generator(device).manual_seed(derive_seed(seed, stream, index))


@contextmanager
def global_stream(seed: int, stream: str, index: int = 0) -> Iterator[None]:
    """Seed torch's global generator by `derive_seed` for a block, as initialisers and dropout accept no generator."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, stream, index))
        yield
