"""Latents in the place of images, for everything that trains and samples diffusion models."""

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from ddpm.data.dataset import ImageDataset, load_dataset


@dataclass(frozen=True)
class LatentDataset(ImageDataset):
    """Latents of a split, of variance 1: a network takes them as they are."""

    @property
    def x0(self) -> Float[Tensor, "n c h w"]:
        """The latents."""
        return self.images


def load_latents(path: Path) -> LatentDataset:
    """Read what `ddpm.data.dataset.save_dataset` wrote of latents; UserError as `load_dataset`."""
    found = load_dataset(path)
    return LatentDataset(found.images, found.labels, found.class_names)
