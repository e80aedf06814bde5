"""Rules that doors share."""

from collections.abc import Iterator
from typing import Any

from ddpm.conditioning.conditioning import CONDITIONINGS


def kind(training: Any) -> Any:
    """The class of the conditioning of a `TrainModel`, or None for an unconditional network."""
    return training.conditioning and CONDITIONINGS[training.conditioning]


def takes_captions(params: Any, train: str) -> Iterator[str]:
    """The network of section `train` is conditioned on captions, or on the classes that they name, and nothing else."""
    training = getattr(params, train)
    chosen = kind(training)
    if not chosen or not chosen.needs_labels or chosen.gives_image:
        name = training.conditioning or "null"
        yield f"{train}.conditioning is {name}; it must be one that takes only captions or classes"


def are_no_pictures(what: str, params: Any, train: str, sample: str) -> Iterator[str]:
    """A network that is not trained on images uses no options that assume 8-bit pixels in [-1, 1].

    Args:
        what: What it is trained on, in the plural, such as "latents".
        params: All params of the door.
        train: The section of its training.
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
            yield f"{key} is {str(value).lower()}; {what} are not images, so it must be {str(allowed).lower()}"
    if training.weighting in ("bound", "consistency"):
        yield f"{train}.weighting is {training.weighting}; it assumes pixels, so it must be simple, x0 or min_snr"
