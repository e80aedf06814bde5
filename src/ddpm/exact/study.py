"""A study of samplers with exact denoisers, where all error of the samples is due to the sampler."""

from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le, Len
from jaxtyping import Float
from pydantic import AfterValidator, model_validator
from torch import Tensor
from tqdm import tqdm

from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.exact.denoiser import ExactDenoiser
from ddpm.exact.quality import GradientQuality, measure
from ddpm.registry import Registry
from ddpm.run.compute import Compute
from ddpm.run.params import Chooses, Section
from ddpm.run.progress import hidden
from ddpm.run.resume.pieces import Piece, Pieces
from ddpm.run.seeding import generator
from ddpm.sampling.chain import sample_steps
from ddpm.sampling.sampler import SAMPLERS
from ddpm.sampling.samplers.ancestral import AncestralOptions
from ddpm.training.params import ScheduleName, check_schedule

ERROR_COLUMNS = "schedule", "sampler", "max_steps", *GradientQuality.__annotations__


class StudySamplers(Chooses):
    """Section `study_samplers`: samplers, noise schedules and T with the exact denoiser.

    Attributes:
        n_samples: Number of samples per combination.
        max_steps: Values of T.
        schedules: Noise schedules, or null for all.
        samplers: Files in src/ddpm/sampling/samplers, or null for all. A sampler that needs more than T steps is left
            out at that T.
        n_bound: Held-out images per variational bound.
    """

    n_samples: Annotated[int, Ge(1), Le(100_000)]
    max_steps: Annotated[list[Annotated[int, Ge(2), Le(10_000)]], Len(1, 12)]  # at least 2, for the variational bound
    schedules: Annotated[list[ScheduleName], Len(1)] | None
    samplers: Annotated[list[Annotated[str, AfterValidator(SAMPLERS.checked)]], Len(1)] | None
    n_bound: Annotated[int, Ge(2), Le(10_000)]

    @classmethod
    def registries(cls) -> dict[str, Registry[Any]]:
        """The registry of the samplers."""
        return {"samplers": SAMPLERS}

    def chosen(self) -> Iterator[tuple[str, str]]:
        """The samplers, or all if `samplers` is null."""
        return (("samplers", name) for name in self.samplers or SAMPLERS)

    @property
    def most_processes(self) -> int:
        """At most one process per combination."""
        return len(self.cells)

    @property
    def chains(self) -> list[tuple[str, int]]:
        """Every (noise schedule, T)."""
        return [(schedule, max_steps) for schedule in self.schedules or SCHEDULES for max_steps in self.max_steps]

    @property
    def cells(self) -> list[tuple[str, str, int]]:
        """Every valid (noise schedule, sampler, T)."""
        return [
            (schedule, sampler, max_steps)
            for schedule in self.schedules or SCHEDULES
            for _, sampler in self.chosen()
            for max_steps in self.max_steps
            if SAMPLERS[sampler].min_steps <= max_steps
        ]

    @model_validator(mode="after")
    def _exact_denoisers_can_do_it(self) -> "StudySamplers":
        for schedule, max_steps in self.chains:
            check_schedule(schedule, max_steps)
        for field, name in self.chosen():
            if getattr(self.options(field, name), "variance", None) == "learned":
                raise ValueError(
                    f"{name}.variance is learned; an exact denoiser does not predict it; use fixed_small or fixed_large"
                )
        return self


def exact_denoiser(img_shape: tuple[int, ...], schedule: str, max_steps: int, compute: Compute) -> ExactDenoiser:
    """The exact denoiser of gradient images. It predicts x_0, which is defined on every schedule.

    Args:
        img_shape: (channels, height, width).
        schedule: The name of a noise schedule.
        max_steps: T.
        compute: Device and precision.
    """
    betas = SCHEDULES[schedule](max_steps)
    return ExactDenoiser(img_shape, NoiseSchedule(max_steps, compute.device, betas), "x0")


def draw(
    model: DiffusionModel,
    n_samples: int,
    seed: int,
    compute: Compute,
    sampler: str = "ancestral",
    options: Section = AncestralOptions(variance="fixed_small"),
) -> Float[Tensor, "n c h w"]:
    """Sample with all steps of the model's schedule. The noise of sample i is the same for every model and sampler.

    Args:
        model: An exact denoiser or a network.
        n_samples: Number of samples.
        seed: Seed of the noise.
        compute: Device and precision.
        sampler: The name of a sampler.
        options: The sampler's options.

    Returns:
        Samples in the model's range.
    """
    streams = [generator(seed, "samples", i) for i in range(n_samples)]
    return deque(sample_steps(model, streams, None, sampler, options, compute=compute), maxlen=1).pop()


def sampler_error(
    img_shape: tuple[int, ...], params: StudySamplers, seed: int, compute: Compute, pieces: Pieces
) -> Iterator[tuple[Any, ...]]:
    """The quality of samples of the exact denoiser, by noise schedule, sampler and T.

    Args:
        img_shape: (channels, height, width).
        params: The combinations to study.
        seed: Seed of the noise.
        compute: Device and precision.
        pieces: Caches finished parts, so that an interrupted stage can resume.

    Yields:
        Rows of `ERROR_COLUMNS`.
    """

    def quality(schedule: str, sampler: str, max_steps: int) -> Piece:
        model, options = exact_denoiser(img_shape, schedule, max_steps, compute), params.options("samplers", sampler)
        found = measure(draw(model, params.n_samples, seed, compute, sampler, options))
        return (torch.tensor(list(vars(found).values()), dtype=torch.float64),)

    makes = {"/".join(map(str, cell)): partial(quality, *cell) for cell in params.cells}
    found = tqdm(pieces(makes), "sampler error", len(makes), disable=hidden())
    for cell, (values,) in zip(params.cells, found, strict=True):
        yield *cell, *values.tolist()
