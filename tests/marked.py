"""Inputs of a door's stages: each image, caption and embedding is filled with a number set by its split and index."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from workbench import greys, save_split

from ddpm.captions.attributes import NAMES
from ddpm.captions.split import CaptionedSplit
from ddpm.captions.split import save_split as save_captions
from ddpm.captions.vocabulary import LENGTH
from ddpm.run.files import save_tensors

FIRST = {"train": 0, "held_out": 101, "test": 202}  # the number of each split's first image
N = 30
SIZE = 64  # of the embeddings, as in the doors' params


class Weights:
    """Stands in for a trained network, and holds the name of its file. It takes captions."""

    conditioning = "captions"

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)

    def to(self, _: torch.device) -> "Weights":
        return self


class Calls(list):
    """A function that keeps the arguments of each call, and returns the same each time."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer

    def __call__(self, *args: Any, **named: Any) -> Any:
        self.append((*args, *named.values()))
        return self.answer


def numbers(split: str) -> list[int]:
    """The numbers of a split's images."""
    return list(range(FIRST[split], FIRST[split] + N))


def seen(split: str) -> list[int]:
    """Those without a withheld pair: two of three."""
    return [number for number in numbers(split) if number % 3]


def labels(of: list[int]) -> list[int]:
    """The classes of some images."""
    return [number % 10 for number in of]


def rows(of: list[int], length: int) -> Tensor:
    """A row for each number, filled with it."""
    return torch.tensor(of)[:, None].expand(-1, length).contiguous()


def read(found: Tensor) -> list[int]:
    """The numbers of captions, embeddings or 8-bit images."""
    values = found.flatten(1).float()
    assert (values - values[:, :1]).abs().max() < 1e-3
    return values[:, 0].round().int().tolist()


def read_x0(images: Tensor) -> list[int]:
    """The numbers of images in [-1, 1]."""
    return read((images + 1) * 127.5)


def write_images_and_captions() -> None:
    """Write what doors read of the main pipeline and of door captions, seen from the folder of a door.

    Images with an even number are dark, the others light.
    """
    for split, first in FIRST.items():
        of = numbers(split)
        save_split(split, greys(first, N), torch.tensor(labels(of), dtype=torch.uint8), folder="../../../data/images")
        values = torch.zeros(N, len(NAMES), dtype=torch.int64)
        values[:, NAMES.index("tone")] = torch.tensor(of) % 2 + 1
        without = torch.tensor([number in seen(split) for number in of])
        save_captions(Path(f"../captions/data/{split}.safetensors"), CaptionedSplit(rows(of, LENGTH), values, without))


def write_embeddings() -> None:
    """Write what door dalle2's stage embed writes."""
    for split, of in (("train", seen("train")), ("held_out", numbers("held_out"))):
        space = torch.tensor(FIRST[split] + 7)
        save_tensors(Path(f"data/embeddings/{split}.safetensors"), embeddings=rows(of, SIZE).float(), space=space)
