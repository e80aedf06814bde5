"""Requests of the page, validated. Each is one call of the library, whose steps are streamed to the page."""

from abc import ABC, abstractmethod
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le, Len, Lt
from jaxtyping import Float, Int64
from pydantic import AfterValidator, Field
from torch import Tensor

from ddpm.diffusion.model import DiffusionModel
from ddpm.images import from_uint8, normalize_img
from ddpm.run.params import Section
from ddpm.sampling.arguments import OnStep, cond_of_images, options_of
from ddpm.sampling.inpaint import inpaint
from ddpm.sampling.interpolate import interpolate
from ddpm.sampling.sample import sample
from ddpm.sampling.sampler import SAMPLERS
from ddpm.sampling.spacing import check_spacing

Few = Annotated[int, Ge(1), Le(64)]
Pixels = list[Annotated[int, Ge(0), Le(255)]]  # of one image, in (height, width, channels) order


class Request(Section, ABC):
    """The fields of every request.

    network: its name. seed: seed of the noise. n_steps, spacing: of the sampler. label: the class, or null to leave it
    to the model. guidance_scale: 1 for no guidance.
    """

    network: str
    seed: Annotated[int, Ge(0), Lt(2**32)] = 0
    n_steps: int = 10
    spacing: Annotated[str, AfterValidator(check_spacing)] = "karras"  # leaves no grain with few steps of Algorithm 2
    label: Annotated[int, Ge(0), Le(10_000)] | None = None
    guidance_scale: Annotated[float, Ge(0), Le(100)] = 1.0

    @abstractmethod
    def draw(self, model: DiffusionModel, show: OnStep) -> None:
        """Draw the images, and show every step, x_0 last.

        Args:
            model: The requested network.
            show: Called with t and x_t.

        Raises:
            ValueError: The network or the sampler does not allow a value. The message says what is allowed.
        """

    def stream(self) -> torch.Generator:
        """A generator with the request's seed."""
        return torch.Generator().manual_seed(self.seed)

    def labels(self, n: int) -> Int64[Tensor, " n"] | None:
        """The class of each of n images, or None to leave it to the model."""
        return None if self.label is None else torch.full((n,), self.label)


class Draw(Request):
    """Images from pure noise. n: number of images. sampler, options: as in `sample`."""

    n: Few = 16
    spacing: Annotated[str, AfterValidator(check_spacing)] = "even"
    sampler: Annotated[str, AfterValidator(SAMPLERS.checked)] = "unipc"
    options: dict[str, Any] = Field(default_factory=dict)

    def draw(self, model: DiffusionModel, show: OnStep) -> None:
        sample(
            model,
            self.n,
            generator=self.stream(),
            sampler=self.sampler,
            n_steps=self.n_steps,
            spacing=self.spacing,
            labels=self.labels(self.n),
            guidance_scale=self.guidance_scale,
            clip_sample=True,
            on_step=show,
            **options_of(self.sampler, self.options).model_dump(),
        )


class Fill(Request):
    """An image to inpaint. n: number of different results. n_resamples: as in `inpaint`."""

    image: Pixels
    mask: list[bool]
    n: Few = 4
    n_resamples: Annotated[int, Ge(1), Le(50)] = 5

    def draw(self, model: DiffusionModel, show: OnStep) -> None:
        height, width = model.img_shape[1:]
        if len(self.mask) != height * width:
            raise ValueError(f"mask has {len(self.mask)} values; this network's images have {height * width} pixels")
        image = x0_of(model, self.image)
        if not any(self.mask):  # nothing is hidden yet
            show(0, image.expand(self.n, *model.img_shape))
            return
        cond = cond_of_images(model, image, self.labels(1))
        inpaint(
            model,
            image.expand(self.n, *model.img_shape),
            torch.tensor(self.mask).reshape(height, width),
            self.stream(),
            n_resamples=self.n_resamples,
            n_steps=self.n_steps,
            spacing=self.spacing,
            cond=None if cond is None else cond.expand(self.n, *cond.shape[1:]),
            guidance_scale=self.guidance_scale,
            clip_sample=True,
            on_step=show,
        )


class Mix(Request):
    """Interpolation between two images. n: number of interpolated images. num_steps: t at which to interpolate."""

    images: Annotated[list[Pixels], Len(2, 2)]
    num_steps: int
    n: Annotated[int, Ge(2), Le(64)] = 7

    def draw(self, model: DiffusionModel, show: OnStep) -> None:
        first, second = (x0_of(model, image)[0] for image in self.images)
        mixed = interpolate(
            model,
            first,
            second,
            self.n,
            self.num_steps,
            self.stream(),
            n_steps=self.n_steps,
            spacing=self.spacing,
            labels=self.labels(2),
            clip_sample=True,
        )
        show(0, mixed)


def x0_of(model: DiffusionModel, pixels: Pixels) -> Float[Tensor, "1 c h w"]:
    """Pixels as a batch of one image in [-1, 1].

    Raises:
        ValueError: The number of pixels does not match the model's images.
    """
    channels, height, width = model.img_shape
    if len(pixels) != channels * height * width:
        expected = f"{channels * height * width}: {height} x {width} of {channels} channels"
        raise ValueError(f"an image has {len(pixels)} values; this network's have {expected}")
    image = torch.tensor(pixels, dtype=torch.uint8).reshape(1, height, width, channels)
    return normalize_img(from_uint8(image.permute(0, 3, 1, 2)))
