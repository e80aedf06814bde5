"""The diffusion prior of DALL-E 2, a transformer over vectors (Ramesh et al. 2022, section 2.2).

A vector is an image of one pixel and many channels, so that schedules, training and samplers work without changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ddpm.conditioning.conditioning import build_conditioning
from ddpm.conditioning.text import TextBlock
from ddpm.diffusion.model import DiffusionModel
from ddpm.networks.blocks import StepEmbedding
from ddpm.networks.network import NETWORKS, check_config, options_of


@dataclass(frozen=True)
class PriorConfig:
    """Config of a `Prior`.

    Attributes:
        img_shape: (size, 1, 1) of the vectors.
        max_steps: T.
        width: Length of the tokens.
        layers: Number of transformer blocks.
        heads: Heads of each self-attention.
        conditioning: "name" and options of its conditioning (`ddpm.conditioning`). None for an unconditional network.
        n_classes: Number of classes of the data set, for a conditioning that needs them.

    Raises:
        ValueError: img_shape is not (size, 1, 1), heads do not divide width, or a value is out of bounds.
    """

    img_shape: tuple[Annotated[int, Ge(1)], ...]
    max_steps: Annotated[int, Ge(1)]
    width: Annotated[int, Ge(2), Le(1024)] = 128
    layers: Annotated[int, Ge(1), Le(24)] = 2
    heads: Annotated[int, Ge(1), Le(64)] = 4
    conditioning: Mapping[str, Any] | None = None
    n_classes: Annotated[int, Ge(0)] = 0

    def __post_init__(self) -> None:
        """Raise ValueError for a network that cannot be built."""
        check_config(self)
        if len(self.img_shape) != 3 or self.img_shape[1:] != (1, 1):
            raise ValueError(f"img_shape is {self.img_shape}; network prior takes vectors, (size, 1, 1)")
        for name, divisor in (("heads", self.heads), ("2 (sines and cosines)", 2)):
            if self.width % divisor:
                raise ValueError(f"width is {self.width}; it must be a multiple of {name}, {divisor}")


class Prior(DiffusionModel):
    """A transformer over the conditioning's tokens, the timestep, x_t, and a last token that becomes the prediction.

    Args:
        config: Its config.
    """

    Config, Options = PriorConfig, options_of(PriorConfig)

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config, self.img_shape = config, tuple(config.img_shape)
        size, width = config.img_shape[0], config.width
        self.step = nn.Sequential(
            StepEmbedding(config.max_steps, width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)
        )
        self.project_in = nn.Linear(size, width)
        self.last = nn.Parameter(torch.randn(width) / width**0.5)
        self.blocks = nn.Sequential(*(TextBlock(width, config.heads) for _ in range(config.layers)))
        self.norm, self.project_out = nn.LayerNorm(width), nn.Linear(width, size)
        self.conditioning = build_conditioning(config.conditioning, self.img_shape, config.n_classes, width)
        if self.conditioning is not None and self.conditioning.token_size:
            self.project_tokens = nn.Linear(self.conditioning.token_size, width)

    def forward(
        self, images: Float[Tensor, "b size 1 1"], num_steps: Shaped[Tensor, "b"], *cond: Shaped[Tensor, "b *rest"]
    ) -> Float[Tensor, "b size 1 1"]:
        """Predict `self.prediction`.

        Args:
            images: x_t, as vectors.
            num_steps: t of each vector, from 0 to T.
            cond: The conditioning of each vector, if the network is conditional.

        Raises:
            ValueError: `cond` is missing for a conditional network, or given for an unconditional one.
        """
        if len(cond) != (self.conditioning is not None):
            needed = "no cond" if self.conditioning is None else "a cond (see ddpm.conditioning)"
            raise ValueError(f"cond has {len(cond)} tensors; this network takes {needed}")
        step, seen = self.step(num_steps), []
        if self.conditioning is not None:
            given = self.conditioning(*cond)
            step = step if given.embedding is None else step + given.embedding
            seen = [] if given.tokens is None else [self.project_tokens(given.tokens)]
        own = torch.stack((step, self.project_in(images.flatten(1)), self.last.expand_as(step)), dim=1)
        tokens = self.blocks(torch.cat((*seen, own), dim=1))
        return self.project_out(self.norm(tokens[:, -1]))[:, :, None, None]


NETWORKS.register(__name__, Prior)
