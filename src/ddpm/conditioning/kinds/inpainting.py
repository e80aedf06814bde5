"""A caption and an image with a hole, for a network that is trained to inpaint (GLIDE, Nichol et al. 2021, 2.4).

Guidance drops only the caption. The network always sees the image around the hole.
"""

import hashlib
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Bool, Float, Int64, Integer, Shaped, UInt8
from torch import Tensor

from ddpm.captions.vocabulary import LENGTH, PADDING
from ddpm.conditioning.conditioning import CONDITIONINGS, Given
from ddpm.conditioning.kinds.caption import Caption
from ddpm.data.dataset import to_x0_range
from ddpm.data.holes import hole
from ddpm.images import denormalize_img, to_uint8


class Inpainting(Caption):
    """`cond` is a row of bytes: the caption's token IDs, the image with the hole in black, and the mask of the hole.

    Args:
        img_shape: (channels, height, width) of the images.
        more: Further arguments of `Caption`.
    """

    describes = "given a caption and an image with a hole"
    gives_image = True
    gives_mask = True

    def __init__(self, img_shape: tuple[int, ...], **more: int | float | str) -> None:
        super().__init__(img_shape=img_shape, **more)  # type: ignore[arg-type]  # passed by build_conditioning
        self.img_shape = tuple(img_shape)

    def around(
        self, cond: Integer[Tensor, "n any"], images: UInt8[Tensor, "n c h w"], holes: Bool[Tensor, "n 1 h w"]
    ) -> UInt8[Tensor, "n row"]:
        """The `cond` of images with holes, combined with the captions of another `cond`.

        Args:
            cond: Rows that begin with the token IDs of a caption, such as `vocabulary.tokens` or another `cond`.
            images: 8-bit images.
            holes: True where pixels are missing.
        """
        parts = cond[:, :LENGTH], torch.where(holes, 0, images).flatten(1), holes.flatten(1)
        return torch.cat([part.to(torch.uint8) for part in parts], dim=1)

    def check(self, cond: UInt8[Tensor, "n row"]) -> None:
        """Raise ValueError for an invalid token ID. Any byte is a valid pixel."""
        super().check(cond[:, :LENGTH])

    def encode(self, images: Float[Tensor, "n c h w"], labels: Shaped[Tensor, "n"] | None) -> UInt8[Tensor, "n row"]:
        """The images' captions, with random holes that depend only on the image."""
        pixels = to_uint8(denormalize_img(images)).cpu()
        seeds = (hashlib.blake2b(image.numpy().tobytes(), digest_size=7).digest() for image in pixels)
        streams = (torch.Generator().manual_seed(int.from_bytes(seed)) for seed in seeds)
        _, height, width = self.img_shape
        holes = [hole(height, width, stream) for stream in streams]
        return self.around(super().encode(images, labels), pixels, torch.stack(holes))

    def draw(self, seed: int, indices: Iterable[int]) -> UInt8[Tensor, "n row"]:
        """Captions as in `Caption`, with the whole image masked."""
        return self._from_nothing(super().draw(seed, indices))

    def of_labels(self, labels: Shaped[Tensor, " n"]) -> UInt8[Tensor, "n row"]:
        """As in `Caption`, with the whole image masked."""
        return self._from_nothing(super().of_labels(labels))

    def of_captions(self, captions: Sequence[str]) -> UInt8[Tensor, "n row"]:
        """As in `Caption`, with the whole image masked."""
        return self._from_nothing(super().of_captions(captions))

    def labels(self, cond: UInt8[Tensor, "n row"]) -> Int64[Tensor, "n"]:
        return super().labels(cond[:, :LENGTH])

    def null(self, cond: UInt8[Tensor, "b row"]) -> UInt8[Tensor, "b row"]:
        """An empty caption, with the image and the hole unchanged."""
        return torch.cat((torch.full_like(cond[:, :LENGTH], PADDING), cond[:, LENGTH:]), dim=1)

    def forward(self, cond: UInt8[Tensor, "b row"]) -> Given:
        _, height, width = self.img_shape
        known, holes = cond[:, LENGTH:].split((cond.shape[1] - LENGTH - height * width, height * width), dim=1)
        holes = holes.reshape(-1, 1, height, width)
        shown = to_x0_range(known.reshape(-1, *self.img_shape)) * (1 - holes.float())  # the hole is 0, mid-grey
        caption = super().forward(cond[:, :LENGTH])
        device = self.project.weight.device
        return caption._replace(image=torch.cat((shown, holes.float()), dim=1).to(device))

    def _from_nothing(self, words: Integer[Tensor, "n length"]) -> UInt8[Tensor, "n row"]:
        holes = torch.ones(len(words), 1, *self.img_shape[1:], dtype=torch.bool)
        return self.around(words, torch.zeros(len(words), *self.img_shape, dtype=torch.uint8), holes)


CONDITIONINGS.register(__name__, Inpainting)
