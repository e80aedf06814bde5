"""How true samples are to their captions, with intervals."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from jaxtyping import Bool, Shaped
from torch import Tensor

from ddpm.captions.adherence import Adherence
from ddpm.captions.attributes import NAMES
from ddpm.evaluation.estimate import Estimate, estimate


def adherence_scores(found: Adherence, rounds: int, seed: int) -> dict[str, Estimate]:
    """Shares of samples in which the whole caption, the class and each attribute that was said are right.

    Args:
        found: `captions.adherence.adherence`.
        rounds: Random halves behind each interval.
        seed: Of the halves.
    """
    said = {name: found.shown[found.said[:, column], column] for column, name in enumerate(NAMES)}
    groups = {
        "whole": found.whole,
        "class": found.item,
        **{name: right for name, right in said.items() if len(right)},
    }
    return {name: mean(right, rounds, seed) for name, right in groups.items()}


def mean(values: Shaped[Tensor, " n"], rounds: int, seed: int) -> Estimate:
    """The mean of numbers, or the share of true values, with its interval."""
    return estimate(lambda some: some.mean().item(), values.double(), rounds, seed)


def part_of(found: Adherence, chosen: Bool[Tensor, " n"]) -> Adherence:
    """What agrees in some of the images."""
    return Adherence(*(rows[chosen] for rows in found))


def as_values(scores: Mapping[str, Estimate]) -> dict[str, Any]:
    """Estimates as JSON values."""
    return {name: asdict(found) for name, found in scores.items()}
