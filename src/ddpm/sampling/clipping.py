"""Thresholding of the x_0 estimate to the range of the data, [-1, 1], at each step of a sampler.

Guidance pushes estimates out of this range. Static thresholding then saturates pixels, and without thresholding x_t
leaves the distribution seen in training (Saharia et al. 2022, section 2.3).
"""

from typing import Annotated, Any, TypeAlias

from jaxtyping import Float
from pydantic import PlainValidator
from pydantic_core import PydanticCustomError
from torch import Tensor

MUST_BE = "it must be false, true or a number between 0 and 1"


def check_clip_sample(clip_sample: bool | float) -> bool | float:
    """Return `clip_sample` if it is valid for `clipped`.

    Raises:
        ValueError: It is not.
    """
    if not _is_allowed(clip_sample):
        raise ValueError(f"clip_sample is {clip_sample}; {MUST_BE}")
    return clip_sample


def clipped(x0: Float[Tensor, "n c h w"], clip_sample: bool | float) -> Float[Tensor, "n c h w"]:
    """Clip an estimate of x_0.

    Args:
        x0: The estimate.
        clip_sample: False to leave it unclipped, True to clip to [-1, 1], or a quantile p between 0 and 1 for dynamic
            thresholding: each image is clipped to [-s, s] and divided by s, with s the p-quantile of its absolute
            pixel values, at least 1 (Saharia et al. 2022, section 2.3).
    """
    if isinstance(clip_sample, bool):
        return x0.clamp(-1, 1) if clip_sample else x0
    s = x0.abs().flatten(1).quantile(clip_sample, dim=1).clamp(min=1).reshape(-1, 1, 1, 1)
    return x0.clamp(-s, s) / s


def in_words(clip_sample: bool | float) -> str:
    """The name of the clipping method in figures."""
    return {0.0: "none", 1.0: "static"}.get(clip_sample, f"dynamic, {clip_sample:g}")


def _is_allowed(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, float) and 0 < value < 1)


def _a_clip_sample(value: Any) -> Any:
    if not _is_allowed(value):
        raise PydanticCustomError("clip_sample", MUST_BE)
    return value


ClipSample: TypeAlias = Annotated[bool | float, PlainValidator(_a_clip_sample)]  # in params.yaml
