"""The course's toy network: an MLP that sees the flattened image and how far along the noise is."""

from dataclasses import dataclass
from math import prod

import torch
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ddpm.networks.model import DiffusionModel


@dataclass(frozen=True)
class TinyDiffuserConfig:
    """img_shape: (channels, height, width); hidden_size: width of the MLP; max_steps: T, which scales the step."""

    img_shape: tuple[int, ...]
    hidden_size: int
    max_steps: int


class TinyDiffuser(DiffusionModel):
    """Linear, ReLU, Linear on the flattened image with num_steps / T beside it."""

    def __init__(self, config: TinyDiffuserConfig) -> None:
        super().__init__()
        self.config = config
        self.img_shape = tuple(config.img_shape)
        self.hidden_size = config.hidden_size
        self.max_steps = config.max_steps
        self.noise_schedule = None
        n_pixels = prod(self.img_shape)
        self.layers = nn.Sequential(
            nn.Linear(n_pixels + 1, config.hidden_size), nn.ReLU(), nn.Linear(config.hidden_size, n_pixels)
        )

    def forward(self, images: Float[Tensor, "b c h w"], num_steps: Shaped[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
        step = rearrange(num_steps.to(images.dtype) / self.max_steps, "b -> b 1")
        flat = torch.cat((rearrange(images, "b c h w -> b (c h w)"), step), dim=1)
        return self.layers(flat).reshape(images.shape)
