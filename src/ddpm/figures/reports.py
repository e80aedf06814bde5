"""Readers of the other stages' outputs."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ddpm.images import from_uint8

Curve = Sequence[tuple[int, float]]
Rows = Sequence[Mapping[str, str]]


def read_rows(path: Path) -> Rows:
    """The rows of a CSV file, as dicts by column name."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_curve(path: Path) -> Curve:
    """The points (x, y) of a CSV file with two columns, the first of integers."""
    with path.open(newline="") as file:
        return [(int(x), float(y)) for x, y in list(csv.reader(file))[1:]]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def as_pixels(images: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Stored images, 8-bit or in [0, 1], as floats in [0, 1]."""
    return from_uint8(images) if images.dtype == torch.uint8 else images
