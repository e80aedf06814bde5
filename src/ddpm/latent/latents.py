"""Data sets of latents, for training and evaluating diffusion models."""

from dataclasses import dataclass, replace

from jaxtyping import Float, Shaped
from torch import Tensor

from ddpm.data.dataset import ImageDataset


@dataclass(frozen=True, kw_only=True)
class LatentDataset(ImageDataset):
    """The latents of a split, in place of its images. They have variance 1 and are not normalised to [-1, 1].

    Attributes:
        origin: The original split, whose images are the input of a conditioning.
    """

    origin: ImageDataset

    def __getitem__(self, chosen: slice | Shaped[Tensor, " m"]) -> "LatentDataset":
        labels = None if self.labels is None else self.labels[chosen]
        return replace(self, images=self.images[chosen], labels=labels, origin=self.origin[chosen])

    @property
    def x0(self) -> Float[Tensor, "n c h w"]:
        """The latents."""
        return self.images

    @property
    def pictures(self) -> Float[Tensor, "n c h w"]:
        return self.origin.x0


def latents_of(origin: ImageDataset, latents: Float[Tensor, "n c h w"]) -> LatentDataset:
    """The latents of a split."""
    return LatentDataset(latents, origin.labels, origin.class_names, origin=origin)
