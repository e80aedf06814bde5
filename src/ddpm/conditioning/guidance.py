"""A conditional network with its conditioning filled in, and classifier-free guidance (Ho & Salimans 2022).

Training, sampling and evaluation then see a plain `model(x, t)`, conditional or not.
"""

from collections.abc import Iterable
from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor

from ddpm.diffusion.model import DiffusionModel


class Guided(DiffusionModel):
    """A conditional network with the `cond` of its batch filled in.

    Args:
        model: A network with a `conditioning`.
        cond: One row an image of the batches that it will see.
        guidance_scale: s of eps = eps_null + s (eps_cond - eps_null); 1 is plain conditioning (equation 6 of Ho &
            Salimans 2022 with s = 1 + w). Any other value takes twice the work.
    """

    def __init__(self, model: DiffusionModel, cond: Shaped[Tensor, "b *rest"], guidance_scale: float = 1.0) -> None:
        super().__init__()
        self.model: Any = model
        self.cond, self.guidance_scale = cond, guidance_scale
        self.img_shape, self.noise_schedule = model.img_shape, model.noise_schedule
        self.prediction = model.prediction

    def forward(self, images: Float[Tensor, "b c h w"], num_steps: Shaped[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
        return self.with_variance(images, num_steps)[0]

    def with_variance(
        self, images: Float[Tensor, "b c h w"], num_steps: Shaped[Tensor, "b"], *_: Tensor
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"] | None]:
        cond = self.cond.to(images.device)
        conditional, v = self.model.with_variance(images, num_steps, cond)
        if self.guidance_scale == 1:
            return conditional, v
        unconditional, _ = self.model.with_variance(images, num_steps, self.model.conditioning.null(cond))
        return unconditional + self.guidance_scale * (conditional - unconditional), v


def given(
    model: DiffusionModel,
    cond: Shaped[Tensor, "n *rest"] | None,
    chosen: slice | Shaped[Tensor, "b"] = slice(None),
    guidance_scale: float = 1.0,
) -> DiffusionModel:
    """`model` with `cond[chosen]` filled in; an unconditional model as it is.

    Args:
        model: Any network.
        cond: What `encode` or `draw_cond` made; None for an unconditional network.
        chosen: The rows of `cond` that belong to the batch.
        guidance_scale: As in `Guided`; above 1 it needs a network that was trained with dropout of its conditioning.
    """
    return model if cond is None else Guided(model, cond[chosen], guidance_scale)


def encode_cond(
    model: DiffusionModel, images: Float[Tensor, "n c h w"], labels: Shaped[Tensor, "n"] | None
) -> Shaped[Tensor, "n *rest"] | None:
    """The `cond` of images in [-1, 1] that show the classes `labels`; None for an unconditional network."""
    return None if model.conditioning is None else model.conditioning.encode(images, labels)


def draw_cond(model: DiffusionModel, seed: int, indices: Iterable[int]) -> Shaped[Tensor, "n *rest"] | None:
    """The `cond` of new images, by their numbers; None for an unconditional network."""
    return None if model.conditioning is None else model.conditioning.draw(seed, indices)
