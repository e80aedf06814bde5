"""Binding the conditioning to a network, and classifier-free guidance (Ho & Salimans 2022).

Training, sampling and evaluation then call `model(x, t)`, whether the model is conditional or not.
"""

from collections.abc import Iterable
from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor

from ddpm.diffusion.model import DiffusionModel


class Guided(DiffusionModel):
    """A network with its conditioning bound, and with classifier-free guidance.

    Args:
        model: The network.
        cond: One row per image of the batch that it will be called with, or None for an unconditional network.
        guidance_scale: s of eps = eps_null + s (eps_cond - eps_null), which is equation 6 of Ho & Salimans (2022) with
            s = 1 + w. 1 means no guidance. Any other value takes two network evaluations.
        moves: The flips and shifts of each image for a network that takes them, or None for no augmentation.
    """

    def __init__(
        self,
        model: DiffusionModel,
        cond: Shaped[Tensor, "b *rest"] | None,
        guidance_scale: float = 1.0,
        moves: Float[Tensor, "b moves"] | None = None,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.cond, self.guidance_scale = cond, guidance_scale
        self.told = {} if moves is None else {"moves": moves}  # most networks take none
        self.img_shape, self.noise_schedule = model.img_shape, model.noise_schedule
        self.prediction = model.prediction

    def forward(self, images: Float[Tensor, "b c h w"], num_steps: Shaped[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
        return self.with_variance(images, num_steps)[0]

    def with_variance(
        self, images: Float[Tensor, "b c h w"], num_steps: Shaped[Tensor, "b"], *_: Tensor
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"] | None]:
        if self.cond is None:
            predicted, v = self.model.with_variance(images, num_steps, **self.told)
            return predicted, v
        cond = self.cond.to(images.device)
        conditional, v = self.model.with_variance(images, num_steps, cond, **self.told)
        if self.guidance_scale == 1:
            return conditional, v
        unconditional, _ = self.model.with_variance(images, num_steps, self.model.conditioning.null(cond), **self.told)
        return unconditional + self.guidance_scale * (conditional - unconditional), v


def given(
    model: DiffusionModel,
    cond: Shaped[Tensor, "n *rest"] | None,
    chosen: slice | Shaped[Tensor, "b"] = slice(None),
    guidance_scale: float = 1.0,
    moves: Float[Tensor, "b moves"] | None = None,
) -> DiffusionModel:
    """Bind `cond[chosen]` and `moves` to `model`, which is returned unchanged if both are None.

    Args:
        model: Any network.
        cond: The output of `encode_cond` or `draw_cond`, or None for an unconditional network.
        chosen: The rows of `cond` that belong to the batch.
        guidance_scale: As in `Guided`. Above 1 it needs a network trained with dropout of its conditioning.
        moves: As in `Guided`.
    """
    if cond is None and moves is None:
        return model
    return Guided(model, None if cond is None else cond[chosen], guidance_scale, moves)


def encode_cond(
    model: DiffusionModel, images: Float[Tensor, "n c h w"], labels: Shaped[Tensor, "n"] | None
) -> Shaped[Tensor, "n *rest"] | None:
    """The `cond` of images in [-1, 1] with classes `labels`, or None for an unconditional network."""
    return None if model.conditioning is None else model.conditioning.encode(images, labels)


def draw_cond(model: DiffusionModel, seed: int, indices: Iterable[int]) -> Shaped[Tensor, "n *rest"] | None:
    """Draw the `cond` of new images by their indices, or return None for an unconditional network."""
    return None if model.conditioning is None else model.conditioning.draw(seed, indices)
