"""Sampling stages: draw samples in batches, and keep the trajectories of the first few."""

from collections.abc import Iterator
from functools import partial
from math import ceil
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from jaxtyping import Shaped
from pydantic import AfterValidator, model_validator
from torch import Tensor
from tqdm import tqdm

from ddpm.conditioning.guidance import draw_cond, given
from ddpm.diffusion.model import DiffusionModel, schedule_of
from ddpm.images import Decode, as_it_is
from ddpm.registry import Registry
from ddpm.run.params import Chooses, Count
from ddpm.run.progress import hidden
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import generator
from ddpm.run.stage import StageRun
from ddpm.sampling.chain import sample_steps
from ddpm.sampling.clipping import ClipSample
from ddpm.sampling.denoiser import NetworkDenoiser
from ddpm.sampling.recording import record
from ddpm.sampling.sampler import SAMPLERS
from ddpm.sampling.spacing import check_spacing, timesteps


class SampleModel(Chooses):
    """Sections `sample.tiny` and `sample.unet`: how samples of a model are drawn."""

    n_samples: Annotated[int, Ge(1), Le(1_000_000)]
    n_trajectories: Annotated[int, Ge(1), Le(64)]
    batch_size: Count
    sampler: Annotated[str, AfterValidator(SAMPLERS.checked)]
    n_steps: Annotated[int, Ge(1), Le(10_000)] | None
    spacing: Annotated[str, AfterValidator(check_spacing)]
    clip_sample: ClipSample
    guidance_scale: Annotated[float, Ge(1), Le(100)]

    @classmethod
    def registries(cls) -> dict[str, Registry[Any]]:
        """The registry of each field."""
        return {"sampler": SAMPLERS}

    @property
    def most_processes(self) -> int:
        """One per batch."""
        return ceil(self.n_samples / self.batch_size)

    @model_validator(mode="after")
    def _can_be_drawn(self) -> "SampleModel":
        if self.n_trajectories > self.n_samples:
            raise ValueError(f"n_trajectories is {self.n_trajectories}; it cannot exceed n_samples, {self.n_samples}")
        least = SAMPLERS[self.sampler].min_steps
        if self.n_steps is not None and self.n_steps < least:
            raise ValueError(f"n_steps is {self.n_steps}; sampler {self.sampler} needs at least {least}")
        return self


def draw_samples(
    stage: StageRun,
    model: DiffusionModel,
    decode: Decode = as_it_is,
    cond: Shaped[Tensor, "n *rest"] | None = None,
) -> dict[str, Tensor]:
    """Draw samples as specified by `stage.params`, as 8-bit images.

    Args:
        stage: A stage sample_NAME. Finished batches of an interrupted run are not drawn again.
        model: A trained network.
        decode: Maps the network's data, such as latents, to images in [-1, 1].
        cond: The conditioning of each sample, or None to let the model draw it.

    Returns:
        samples: (n, c, h, w). steps: the trajectories of the first ones, (n_steps + 1, n_trajectories, c, h, w), at
        the timesteps num_steps, from T to 0. estimates: the network's x_0 estimates at these timesteps. cond: the
        conditioning, and labels: the requested classes, if there are any.
    """
    params = stage.params
    steps = timesteps(schedule_of(model), params.n_steps, params.spacing)
    cond = draw_cond(model, stage.seed, range(params.n_samples)) if cond is None else cond
    firsts = range(0, params.n_samples, params.batch_size)
    pieces, made = Pieces(stage.resume), list[tuple[Tensor, ...]]()
    with tqdm(total=len(firsts) * len(steps), desc=stage.name.replace("_", " "), disable=hidden()) as progress:
        draw = partial(_draw_batch, stage, model, cond, steps, decode, progress)
        makes = {f"from {first}": partial(draw, first) for first in firsts}
        for piece in pieces(makes):
            made.append(piece)
            progress.update(len(made) * len(steps) - progress.n)  # for batches drawn earlier, or by another process
    samples, trajectories, estimates = zip(*made, strict=True)
    labels = None if cond is None else model.conditioning.labels(cond)
    found = {"cond": cond, "labels": labels}
    return {
        "samples": torch.cat(samples),
        "steps": torch.cat(trajectories, dim=1),
        "estimates": torch.cat(estimates, dim=1),
        "num_steps": steps.flip(0),
        **{name: tensor for name, tensor in found.items() if tensor is not None},
    }


def _draw_batch(
    stage: StageRun,
    model: DiffusionModel,
    cond: Tensor | None,
    steps: Tensor,
    decode: Decode,
    progress: "tqdm[Any]",
    first: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The batch of samples from index `first` on, and the trajectories and x_0 estimates of those to keep."""
    params, options = stage.params, stage.params.options("sampler")
    images = range(first, min(first + params.batch_size, params.n_samples))
    kept = images[: max(0, params.n_trajectories - first)]
    batch, few = (given(model, cond, slice(i.start, i.stop), params.guidance_scale) for i in (images, kept))
    denoise = NetworkDenoiser(few, steps, params.clip_sample, stage.compute)
    streams = [generator(stage.seed, "noise", i) for i in images]
    chain = sample_steps(batch, streams, steps, params.sampler, options, params.clip_sample, stage.compute)
    return record(_counted(chain, progress), len(steps) - 1, denoise, len(kept), decode)


def _counted(chain: Iterator[Tensor], progress: "tqdm[Any]") -> Iterator[Tensor]:
    """Yield the steps of the chain, and advance the progress bar after each."""
    for x in chain:
        yield x
        progress.update()
