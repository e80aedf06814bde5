"""The autoencoder of Latent Diffusion (Rombach et al. 2022, section 3.1).

An encoder downsamples images by `factor`, a bottleneck regularises the latents, and a decoder reconstructs images.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from safetensors import safe_open
from torch import Tensor, nn

from ddpm.data.dataset import to_x0_range
from ddpm.diffusion.model import evaluation_mode
from ddpm.errors import UserError
from ddpm.images import denormalize_img, to_uint8
from ddpm.latent.bottleneck import BOTTLENECKS
from ddpm.networks.blocks import ConvBlock
from ddpm.run.compute import Compute
from ddpm.run.files import load_tensors, write_tensors
from ddpm.run.seeding import generator

Factor = Literal[1, 2, 4, 8]
BATCH = 256  # images per batch outside training


@dataclass(frozen=True)
class AutoencoderConfig:
    """Config of an `Autoencoder`.

    Attributes:
        img_shape: (channels, height, width) of the images.
        factor: The downsampling factor f from image to latent. With 1, images are their own latents.
        latent_channels: Number of channels of a latent.
        channels: Feature maps at half the image size. There are twice as many below, and half as many at full size.
        groups: Number of groups of each GroupNorm.
        bottleneck: "name" and options of the bottleneck.
    """

    img_shape: tuple[int, ...]
    factor: Factor
    latent_channels: int
    channels: int
    groups: int
    bottleneck: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Raise ValueError if the autoencoder cannot be built."""
        if self.channels % (2 * self.groups):
            raise ValueError(f"channels is {self.channels}; it must be a multiple of twice groups, {2 * self.groups}")
        if min(self.img_shape[1:]) < self.factor:
            raise ValueError(f"factor is {self.factor}; images are {self.img_shape[1]}x{self.img_shape[2]}")
        if self.factor == 1 and (name := self.bottleneck["name"]) != "none":
            raise ValueError(f"bottleneck is {name}; with factor 1 images are their own latents, so it must be none")
        if self.factor == 1 and self.latent_channels != self.img_shape[0]:
            raise ValueError(
                f"latent_channels is {self.latent_channels}; with factor 1 images are their own latents, so it must be "
                f"their channels, {self.img_shape[0]}"
            )

    @property
    def padding(self) -> tuple[int, int]:
        """Rows and columns to add so that `factor` divides height and width."""
        return -self.img_shape[1] % self.factor, -self.img_shape[2] % self.factor

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a latent."""
        height, width = (-(-size // self.factor) for size in self.img_shape[1:])
        return self.latent_channels, height, width


class Residual(nn.Module):
    """Two ConvBlocks and a skip connection."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(ConvBlock(channels, channels, groups), ConvBlock(channels, channels, groups))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.blocks(x)


class Autoencoder(nn.Module):
    """Encoder, bottleneck and decoder. If `factor` does not divide the image size, images are padded with black.

    Args:
        config: The config.

    Attributes:
        scale: Factor that gives the latents of the training images variance 1.
    """

    scale: Float[Tensor, ""]

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        own = {key: value for key, value in config.bottleneck.items() if key != "name"}
        self.bottleneck = BOTTLENECKS[config.bottleneck["name"]](config.latent_channels, **own)
        self.register_buffer("scale", torch.ones(()))
        self.encoder: nn.Module = nn.Identity()
        self.decoder: nn.Module = nn.Identity()
        if config.factor == 1:
            return
        images, groups = config.img_shape[0], config.groups
        levels = config.factor.bit_length() - 1
        widths = [config.channels // 2, config.channels, *[2 * config.channels] * (levels - 1)]
        down: list[nn.Module] = [nn.Conv2d(images, widths[0], 3, padding=1)]
        up: list[nn.Module] = [nn.Conv2d(widths[0], images, 3, padding=1)]
        for above, below in pairwise(widths):
            down += [nn.SiLU(), nn.Conv2d(above, below, 4, stride=2, padding=1), Residual(below, groups)]
            up += [ConvBlock(above, above, groups), nn.ConvTranspose2d(below, above, 4, 2, 1), Residual(below, groups)]
        down.append(nn.Conv2d(widths[-1], self.bottleneck.channels_in, 1))
        up.append(nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1))
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*reversed(up))

    @property
    def last(self) -> Tensor:
        """The weights of the decoder's last layer."""
        assert isinstance(self.decoder, nn.Sequential)  # with factor 1 there is no layer
        assert isinstance(self.decoder[-1], nn.Conv2d)
        return self.decoder[-1].weight

    def forward(
        self, images: Float[Tensor, "b c h w"], stream: torch.Generator
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b"]]:
        """Reconstructions of images in [-1, 1], and the bottleneck's penalty for each. `stream` generates its noise."""
        latents, penalty = self.bottleneck(self.encoder(self._padded(images)), stream)
        return self._cropped(self.decoder(latents)), penalty

    def encode(self, images: Float[Tensor, "b c h w"], stream: torch.Generator) -> Float[Tensor, "b z h2 w2"]:
        """Latents of images in [-1, 1], scaled to variance 1. `stream` generates the bottleneck's noise."""
        return self.scale * self.bottleneck.latents(self.encoder(self._padded(images)), stream)

    def decode(self, latents: Float[Tensor, "b z h2 w2"]) -> Float[Tensor, "b c h w"]:
        """Images in about [-1, 1] from latents of variance 1."""
        return self._cropped(self.decoder(self.bottleneck.decodable(latents / self.scale)))

    def _padded(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        rows, columns = self.config.padding
        return F.pad(images, (0, columns, 0, rows), value=-1) if rows or columns else images

    def _cropped(self, images: Float[Tensor, "b c h2 w2"]) -> Float[Tensor, "b c h w"]:
        return images[..., : self.config.img_shape[1], : self.config.img_shape[2]]


def encode_images(
    model: Autoencoder, images: UInt8[Tensor, "n c h w"], seed: int, compute: Compute = Compute()
) -> Float[Tensor, "n z h2 w2"]:
    """Latents of 8-bit images, on the CPU.

    Args:
        model: The autoencoder.
        images: 8-bit images.
        seed: Seed of the noise, which also depends on the index of the batch.
        compute: Device and precision.
    """
    made = []
    with torch.no_grad(), evaluation_mode(model):
        for number, batch in enumerate(images.split(BATCH)):
            with compute.autocast():
                x = to_x0_range(batch.to(compute.device))
                made.append(model.encode(x, generator(seed, "latents", number)).float().cpu())
    return torch.cat(made)


def decode_latents(
    model: Autoencoder, latents: Float[Tensor, "n z h2 w2"], compute: Compute = Compute()
) -> Float[Tensor, "n c h w"]:
    """Images in about [-1, 1], on the device of the latents."""
    with torch.no_grad(), evaluation_mode(model), compute.autocast():
        made = [model.decode(batch.to(compute.device)) for batch in latents.split(BATCH)]
    return torch.cat(made).float().to(latents.device)


def reconstructed(
    model: Autoencoder, images: UInt8[Tensor, "n c h w"], seed: int, compute: Compute = Compute()
) -> UInt8[Tensor, "n c h w"]:
    """Encode images and decode their latents.

    Args:
        model: The autoencoder.
        images: 8-bit images.
        seed: Seed of the noise of the latents.
        compute: Device and precision.

    Returns:
        8-bit images.
    """
    return to_uint8(denormalize_img(decode_latents(model, encode_images(model, images, seed, compute), compute)))


def save_autoencoder(path: Path, model: Autoencoder) -> None:
    """Write the weights, with the config in the file's header."""
    write_tensors(path, model.state_dict(), {"config": json.dumps(asdict(model.config), sort_keys=True)})


def load_autoencoder(path: Path) -> Autoencoder:
    """Read a file written by `save_autoencoder`.

    Returns:
        The autoencoder on the CPU, in eval mode and without gradients.

    Raises:
        UserError: The file is missing, damaged, or not an autoencoder.
    """
    weights = load_tensors(path)
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads((file.metadata() or {})["config"])
        model = Autoencoder(AutoencoderConfig(**values | {"img_shape": tuple(values["img_shape"])}))
        model.load_state_dict(weights)
    except (RuntimeError, KeyError, TypeError, ValueError, UserError):
        raise UserError(f"{path}: not an autoencoder of this version; delete it and run `dvc repro`") from None
    return model.eval().requires_grad_(False)
