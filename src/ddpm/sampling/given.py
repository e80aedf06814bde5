"""Sampling with a given conditioning, for the doors."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from jaxtyping import Shaped, UInt8
from pydantic import AfterValidator
from torch import Tensor

from ddpm.conditioning.guidance import given
from ddpm.diffusion.model import DiffusionModel, schedule_of
from ddpm.images import Decode, as_it_is, denormalize_img, to_uint8
from ddpm.registry import Registry
from ddpm.run.compute import Compute
from ddpm.run.params import Chooses, Count
from ddpm.run.resume.pieces import Piece
from ddpm.run.seeding import generator
from ddpm.sampling.chain import sample_steps
from ddpm.sampling.denoiser import NetworkDenoiser
from ddpm.sampling.recording import record
from ddpm.sampling.sampler import SAMPLERS
from ddpm.sampling.spacing import check_spacing, timesteps

Make = Callable[[Mapping[str, Callable[[], Piece]]], Iterable[Piece]]  # `Pieces`, or `Pieces.within`


class Drawing(Chooses):
    """How samples are drawn: the keys of `sample.unet` without the number of samples."""

    batch_size: Count
    sampler: Annotated[str, AfterValidator(SAMPLERS.checked)]
    n_steps: Annotated[int, Ge(1), Le(10_000)] | None
    spacing: Annotated[str, AfterValidator(check_spacing)]
    clip_sample: bool

    @classmethod
    def registries(cls) -> dict[str, Registry[Any]]:
        """The registry of each field."""
        return {"sampler": SAMPLERS}

    @property
    def most_processes(self) -> int:
        """The maximum number of processes that can share the batches."""
        return 64


def draw_given(
    model: DiffusionModel,
    cond: Shaped[Tensor, "n *rest"],
    guidance_scale: float,
    params: Drawing,
    seed: int,
    compute: Compute,
    pieces: Make,
    steer: Callable[[DiffusionModel, Tensor], DiffusionModel] | None = None,
    decode: Decode = as_it_is,
) -> UInt8[Tensor, "n c h w"]:
    """Draw an image for each row of `cond`. The noise of image i does not depend on conditioning or guidance.

    Args:
        model: A trained conditional network.
        cond: The conditioning, as encoded by the network's `conditioning`.
        guidance_scale: Scale of classifier-free guidance, or 1 for none.
        params: Sampler, steps and batch size.
        seed: Seed of the noise.
        compute: Device and precision.
        pieces: Keeps finished batches.
        steer: Maps the network of a batch and its `cond` to the network to sample from. None for no change.
        decode: Maps the network's data, such as latents, to images in [-1, 1].
    """
    steps, options = timesteps(schedule_of(model), params.n_steps, params.spacing), params.options("sampler")

    def batch(rows: slice) -> Piece:
        network = given(model, cond, rows, guidance_scale)
        network = network if steer is None else steer(network, cond[rows])
        streams = [generator(seed, "noise", i) for i in range(rows.start, rows.stop)]
        *_, x = sample_steps(network, streams, steps, params.sampler, options, params.clip_sample, compute)
        return (to_uint8(denormalize_img(decode(x))),)

    firsts = range(0, len(cond), params.batch_size)
    rows = [slice(first, min(first + params.batch_size, len(cond))) for first in firsts]
    return torch.cat([images for (images,) in pieces({f"from {each.start}": partial(batch, each) for each in rows})])


def draw_film(
    model: DiffusionModel,
    cond: Shaped[Tensor, "k *rest"],
    guidance_scale: float,
    params: Drawing,
    seed: int,
    compute: Compute,
    pieces: Make,
) -> dict[str, Tensor]:
    """Draw an image for each row of `cond`, and record every step. The arguments are those of `draw_given`.

    Returns:
        steps, estimates, num_steps: as from `draw_samples`.
    """
    steps, options = timesteps(schedule_of(model), params.n_steps, params.spacing), params.options("sampler")

    def film() -> Piece:
        network = given(model, cond, guidance_scale=guidance_scale)
        streams = [generator(seed, "noise", i) for i in range(len(cond))]
        chain = sample_steps(network, streams, steps, params.sampler, options, params.clip_sample, compute)
        denoise = NetworkDenoiser(network, steps, params.clip_sample, compute)
        return record(chain, len(steps) - 1, denoise, len(cond))[1:]

    [(trajectories, estimates)] = pieces({"film": film})
    return {"steps": trajectories, "estimates": estimates, "num_steps": steps.flip(0)}
