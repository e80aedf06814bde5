"""Variations of images, interpolations and text differences (DALL-E 2, Ramesh et al. 2022, section 3)."""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Le, Len
from jaxtyping import Float, UInt8
from pydantic import AfterValidator, Strict, model_validator
from torch import Tensor

from ddpm.captions.attributes import ATTRIBUTES
from ddpm.captions.grid import GuidanceScale
from ddpm.captions.vocabulary import LENGTH, PADDING
from ddpm.conditioning.sphere import on_sphere, slerp
from ddpm.diffusion.model import DiffusionModel
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import derive_seed
from ddpm.run.stage import StageRun
from ddpm.sampling.decoder import cond_of
from ddpm.sampling.given import Drawing, draw_given


def _an_attribute(pair: tuple[str, str]) -> tuple[str, str]:
    pairs = [*ATTRIBUTES.values()]
    if pair not in pairs and pair[::-1] not in pairs:
        known = ", ".join(" and ".join(each) for each in pairs)
        raise ValueError(f"{pair[0]} and {pair[1]} are not the two values of an attribute; allowed: {known}")
    return pair


Difference = Annotated[tuple[str, str], Strict(False), AfterValidator(_an_attribute)]
Share = Annotated[float, Ge(0), Le(1)]


class Vary(Drawing):
    """Section `vary`.

    n_images: held-out images, with n_each variations each. n_pairs: pairs of images to interpolate between, with
    n_between images each, including both ends.
    """

    n_images: Annotated[int, Ge(2), Le(5000)]
    n_each: Annotated[int, Ge(2), Le(64)]
    n_pairs: Annotated[int, Ge(1), Le(64)]
    n_between: Annotated[int, Ge(2), Le(32)]
    guidance_scale: GuidanceScale

    @model_validator(mode="after")
    def _pairs_are_there(self) -> "Vary":
        if 2 * self.n_pairs > self.n_images:
            raise ValueError(f"n_pairs is {self.n_pairs}; it cannot exceed half of n_images, {self.n_images // 2}")
        return self


class Edit(Drawing):
    """Section `edit`.

    n_images: held-out images per text difference. differences: pairs of an attribute's values, the images' own value
    first. shares: fractions of the way to a text difference, the first 0.
    """

    n_images: Annotated[int, Ge(1), Le(5000)]
    differences: Annotated[list[Difference], Len(1, 12)]
    shares: Annotated[list[Share], Len(2, 8)]
    guidance_scale: GuidanceScale


def edited(
    embeddings: Float[Tensor, "n size"], before: Float[Tensor, "n size"], after: Float[Tensor, "n size"], share: float
) -> Float[Tensor, "n size"]:
    """Image embeddings, rotated towards the difference of two text embeddings (section 3.3).

    Args:
        embeddings: Image embeddings.
        before: Text embeddings of what the images show.
        after: Text embeddings of what they should show.
        share: Fraction of the arc, from 0 to 1. The paper uses 0.25 to 0.5.
    """
    return slerp(embeddings, on_sphere(after - before), torch.tensor([share]))


class Varied:
    """Samples of the decoder for stages vary and edit, with empty captions.

    Args:
        stage: Stage vary or edit. Finished batches of an interrupted run are not drawn again.
        decoder: A trained network.
    """

    def __init__(self, stage: StageRun, decoder: DiffusionModel) -> None:
        self._stage, self._decoder, self._pieces = stage, decoder, Pieces(stage.resume)

    def variations(self, embeddings: Float[Tensor, "n size"]) -> UInt8[Tensor, "n k c h w"]:
        """n_each images per embedding, each with its own noise."""
        n_each = self._stage.params.n_each
        return self._drawn(embeddings.repeat_interleave(n_each, dim=0), "variations").unflatten(0, (-1, n_each))

    def between(self, first: Float[Tensor, "n size"], second: Float[Tensor, "n size"]) -> UInt8[Tensor, "n k c h w"]:
        """n_between images on the arc from each embedding in `first` to that in `second`."""
        weights = torch.linspace(0, 1, self._stage.params.n_between)
        return self._columns("between", [slerp(first, second, weight) for weight in weights.split(1)])

    def edits(
        self,
        name: str,
        embeddings: Float[Tensor, "n size"],
        before: Float[Tensor, "n size"],
        after: Float[Tensor, "n size"],
    ) -> UInt8[Tensor, "n k c h w"]:
        """Images of `edited` embeddings, one for each of `shares`.

        Args:
            name: Prefix of the names of saved batches.
            embeddings: The images' embeddings.
            before: Embeddings of the captions that describe them.
            after: Embeddings of the captions that they are edited towards.
        """
        return self._columns(name, [edited(embeddings, before, after, share) for share in self._stage.params.shares])

    def _columns(self, name: str, steps: Sequence[Float[Tensor, "n size"]]) -> UInt8[Tensor, "n k c h w"]:
        """An image of each embedding at each step. Images of the same row have the same noise."""
        return torch.stack([self._drawn(step, name, f" {i}") for i, step in enumerate(steps)], dim=1)

    def _drawn(self, embeddings: Float[Tensor, "n size"], name: str, part: str = "") -> UInt8[Tensor, "n c h w"]:
        params, compute = self._stage.params, self._stage.compute
        cond = cond_of(self._decoder, embeddings, torch.full((len(embeddings), LENGTH), PADDING))
        seed, pieces = derive_seed(self._stage.seed, name), self._pieces.within(f"{name}{part}")
        return draw_given(self._decoder, cond, params.guidance_scale, params, seed, compute, pieces)
