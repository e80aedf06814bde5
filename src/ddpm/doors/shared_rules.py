"""Rules that doors have in common."""

from collections.abc import Iterator
from typing import Any

from ddpm.conditioning.conditioning import CONDITIONINGS


def kind(training: Any) -> Any:
    """The class of the conditioning that a `TrainModel` chooses; None for none."""
    return training.conditioning and CONDITIONINGS[training.conditioning]


def are_no_pictures(what: str, params: Any, train: str, sample: str) -> Iterator[str]:
    """What a network learns that has no pixels of 8 bits and no edges, and lies beyond [-1, 1].

    Args:
        what: Its name, in the plural.
        params: Of the door.
        train: The section of the network's training.
        sample: The section of its samples.
    """
    training = getattr(params, train)
    variance = getattr(training.options("network"), "learn_variance", False)
    for key, value, allowed in (
        (f"{train}.flip", training.flip, False),
        (f"{train}.max_shift", training.max_shift, 0),
        (f"{train}.{training.network}.learn_variance", variance, False),
        (f"{sample}.clip_sample", getattr(params, sample).clip_sample, False),
    ):
        if value != allowed:
            yield f"{key} is {str(value).lower()}; {what} are no pictures, so it must be {str(allowed).lower()}"
    if training.weighting in ("bound", "consistency"):
        yield f"{train}.weighting is {training.weighting}; it is of pixels, so it must be simple, x0 or min_snr"
