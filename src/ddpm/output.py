"""Helpers of the commands that write images: argument checks and PNG output."""

import os
from pathlib import Path

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from ddpm.diffusion.model import DiffusionModel
from ddpm.errors import UserError
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import atomic_path
from ddpm.run.params import SEEDS

MOST_IMAGES, HIGHEST_LABEL = 1_000_000, 10_000
MEMORY_HINT = "-n or the model"  # what to lower if memory runs out


def load_image_model(path: Path) -> DiffusionModel:
    """Load a model that generates images.

    Raises:
        UserError: The file is not a model (see `load_model`), or the model generates latents or embeddings.
    """
    model = load_model(path)
    if (channels := model.img_shape[0]) not in (1, 3):
        raise UserError(
            f"{path}: it generates latents or embeddings with {channels} channels, not images; use a model "
            "with 1 (grey) or 3 (colour); `ddpm.draw` also takes latents, with --decoder"
        )
    return model


def check_numbers(n: int, seed: int, label: int | None = None) -> None:
    """Check the number of images, the seed and the class.

    Raises:
        UserError: One is out of range.
    """
    limits = {"n": (n, 1, MOST_IMAGES), "seed": (seed, 0, SEEDS - 1), "label": (label or 0, 0, HIGHEST_LABEL)}
    for name, (value, least, most) in limits.items():
        if not least <= value <= most:
            raise UserError(f"{name} is {value}; it must be from {least} to {most}")


def check_folder(folder: Path) -> None:
    """Check that files can be written to a folder, which may not exist yet.

    Raises:
        UserError: It is a file or inside one, or it is not writable.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise UserError(f"{folder}: {'it' if there == folder else there} is not a folder; name a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: {there} is not writable; name another folder")


def write_pngs(folder: Path, images: UInt8[Tensor, "n c h w"]) -> None:
    """Write files `0.png` to `N.png`, all with the same number of digits. The folder is created if missing."""
    for i, image in enumerate(images.permute(0, 2, 3, 1).cpu().numpy()):
        with atomic_path(folder / f"{i:0{len(str(len(images) - 1))}}.png") as temporary:
            Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(temporary)
