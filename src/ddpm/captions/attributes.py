"""Attributes of FashionMNIST's items, measured from the pixels by rules.

A rule has two thresholds. An image below the first has the attribute's first value, one above the second the other
value, and one in between has none, since it is ambiguous. The thresholds were chosen by looking at images of the
training split (see docs/captions.md).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Integer, UInt8
from torch import Tensor

from ddpm.captions.measures import arch, breadth, brightness, contrast, hem, stature
from ddpm.images import from_uint8

# Values by attribute, encoded as 1 and 2 in tensors, with 0 for none. The first value has the lower measure.
ATTRIBUTES = {
    "tone": ("dark", "light"),
    "pattern": ("plain", "patterned"),
    "width": ("narrow", "wide"),
    "length": ("low", "tall"),
    "sleeves": ("short-sleeved", "long-sleeved"),
    "heel": ("flat", "heeled"),
}
DATA_SET = "fashion_mnist"  # the rules are for its classes
NAMES = tuple(ATTRIBUTES)
VALUES = tuple(value for pair in ATTRIBUTES.values() for value in pair)


class Rule(NamedTuple):
    """A measure and its thresholds: below `low` an image has the attribute's first value, above `high` the second."""

    measure: Callable[[Float[Tensor, "n h w"]], Float[Tensor, " n"]]
    low: float
    high: float


TONE, PATTERN = Rule(brightness, 0.5, 0.65), Rule(contrast, 0.055, 0.085)
# The attributes of each class, by its index. Shoes have no pattern: light stripes on dark leather are ambiguous.
RULES: tuple[dict[str, Rule], ...] = (
    {"tone": TONE, "pattern": PATTERN, "width": Rule(breadth, 0.48, 0.58)},  # T-shirt/top: tank tops are narrow
    {"tone": TONE, "width": Rule(breadth, 0.31, 0.36)},  # Trouser
    {"tone": TONE, "pattern": PATTERN},  # Pullover
    {"tone": TONE, "pattern": PATTERN, "width": Rule(breadth, 0.34, 0.44)},  # Dress
    {"tone": TONE, "pattern": PATTERN},  # Coat
    {"tone": TONE, "heel": Rule(stature, 0.5, 0.75)},  # Sandal: wedges have no arch, but stand as tall as heels
    {"tone": TONE, "pattern": PATTERN, "sleeves": Rule(hem, 0.58, 0.7)},  # Shirt
    {"tone": TONE, "length": Rule(stature, 0.45, 0.52)},  # Sneaker
    {"tone": TONE, "pattern": PATTERN, "length": Rule(stature, 0.72, 0.95)},  # Bag, with its handle
    {"tone": TONE, "length": Rule(stature, 0.68, 0.82), "heel": Rule(arch, 0.021, 0.064)},  # Ankle boot
)


def measured(images: UInt8[Tensor, "n c h w"], items: Integer[Tensor, " n"]) -> Int64[Tensor, "n attributes"]:
    """The attribute values of images, by the rules of their classes.

    Args:
        images: 8-bit images, whose channels are averaged.
        items: Class indices of FashionMNIST.

    Returns:
        One column per attribute: 1 or 2 for its first or second value, 0 for none.
    """
    grey, found = from_uint8(images).mean(1), torch.zeros(len(images), len(NAMES), dtype=torch.int64)
    for item, rules in enumerate(RULES):
        chosen = (items == item).nonzero()[:, 0]
        for name, rule in rules.items():
            measure = rule.measure(grey[chosen])
            found[chosen, NAMES.index(name)] = (measure < rule.low).long() + 2 * (measure > rule.high).long()
    return found


def shows(values: Int64[Tensor, "n attributes"], pairs: Sequence[tuple[str, str]]) -> Tensor:
    """Whether each row has both values of any of the pairs, such as ("dark", "wide"), as (n,) booleans."""
    found = torch.zeros(len(values), dtype=torch.bool)
    for first, second in pairs:
        found |= _has(values, first) & _has(values, second)
    return found


def _has(values: Int64[Tensor, "n attributes"], value: str) -> Tensor:
    column, number = divmod(VALUES.index(value), 2)
    return values[:, column] == number + 1


def measured_together(first: str, second: str) -> bool:
    """Whether the values belong to different attributes that are both measured for some class."""
    names = {NAMES[VALUES.index(value) // 2] for value in (first, second)}
    return len(names) == 2 and any(names <= rules.keys() for rules in RULES)
