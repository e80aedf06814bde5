"""The course's toy network: an MLP on the flattened image and the timestep."""

from dataclasses import dataclass
from math import prod
from typing import Annotated

import torch
from annotated_types import Ge, Le
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ddpm.diffusion.model import DiffusionModel
from ddpm.networks.network import NETWORKS, check_config, options_of


@dataclass(frozen=True)
class TinyDiffuserConfig:
    """Config of a `TinyDiffuser`.

    Attributes:
        img_shape: (channels, height, width) of the images.
        hidden_size: Width of the hidden layer.
        max_steps: T, by which the timestep is divided.

    Raises:
        ValueError: A value has the wrong type or is out of bounds.
    """

    img_shape: tuple[Annotated[int, Ge(1)], ...]
    hidden_size: Annotated[int, Ge(1), Le(65_536)]
    max_steps: Annotated[int, Ge(1)]

    def __post_init__(self) -> None:
        """Raise ValueError for a network that cannot be built."""
        check_config(self)


class TinyDiffuser(DiffusionModel):
    """Linear, ReLU, Linear, on the flattened image and t / T.

    Args:
        config: Its config.
    """

    Config, Options = TinyDiffuserConfig, options_of(TinyDiffuserConfig)

    def __init__(self, config: TinyDiffuserConfig) -> None:
        super().__init__()
        self.config = config
        self.img_shape = tuple(config.img_shape)
        self.hidden_size = config.hidden_size
        self.max_steps = config.max_steps
        n_pixels = prod(self.img_shape)
        self.layers = nn.Sequential(
            nn.Linear(n_pixels + 1, config.hidden_size), nn.ReLU(), nn.Linear(config.hidden_size, n_pixels)
        )

    def forward(self, images: Float[Tensor, "b c h w"], num_steps: Shaped[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
        step = rearrange(num_steps.to(images.dtype) / self.max_steps, "b -> b 1")
        flat = torch.cat((rearrange(images, "b c h w -> b (c h w)"), step), dim=1)
        return self.layers(flat).reshape(images.shape)


NETWORKS.register(__name__, TinyDiffuser)
