"""The variational bound of exact denoisers and of models of gradient images, as the rows of a table."""

from collections.abc import Iterable, Iterator
from typing import Any

from ddpm.conditioning.guidance import encode_cond
from ddpm.data.dataset import ImageDataset
from ddpm.diffusion.model import DiffusionModel, schedule_of
from ddpm.diffusion.posterior import Variance
from ddpm.evaluation.bound import VariationalBound
from ddpm.images import to_uint8
from ddpm.run.compute import Compute
from ddpm.run.resume.pieces import Pieces

VARIANCES: tuple[Variance, ...] = ("fixed_small", "fixed_large")
BOUND_COLUMNS = "denoiser", "schedule", "max_steps", "variance", "bits_per_dim", "margin", "L_0", "L_between", "L_T"


def bound_rows(
    denoiser: str,
    schedule: str,
    model: DiffusionModel,
    gradients: ImageDataset,
    seed: int,
    compute: Compute,
    pieces: Pieces,
) -> Iterator[tuple[Any, ...]]:
    """The variational bound on the code length of gradient images, rounded to 8 bits, with each fixed variance.

    Args:
        denoiser: The name of the model in the table.
        schedule: The name of its noise schedule.
        model: The model.
        gradients: The images.
        seed: Seed of the noise, which is the same for every model.
        compute: Device and precision.
        pieces: Caches finished parts, so that an interrupted stage can resume.

    Yields:
        Rows of `BOUND_COLUMNS`.
    """
    max_steps = len(schedule_of(model))
    cond = encode_cond(model, gradients.x0, gradients.labels)
    bounds = VariationalBound(model, to_uint8(gradients.images), VARIANCES, seed, compute, cond=cond)
    for variance, bound in bounds.run(pieces.within(f"bound/{denoiser}/{schedule}/{max_steps}")).items():
        yield denoiser, schedule, max_steps, variance, bound.bits_per_dim, bound.margin, *bound.parts.values()


def bound_metrics(rows: Iterable[tuple[Any, ...]]) -> dict[str, float]:
    """`DENOISER_bound_VARIANCE` in bits/dim, and `..._margin`, half the width of its 95 % confidence interval."""
    metrics: dict[str, float] = {}
    for row in rows:
        named = dict(zip(BOUND_COLUMNS, row, strict=True))
        key = f"{named['denoiser']}_bound_{named['variance']}"
        metrics |= {key: named["bits_per_dim"], f"{key}_margin": named["margin"]}
    return metrics
