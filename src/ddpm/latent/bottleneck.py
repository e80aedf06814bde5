"""What stands between encoder and decoder, so that latents are easy to learn (Rombach et al. 2022, section 3.1).

Each kind is a file in `bottlenecks/`.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddpm.registry import Registry
from ddpm.run.params import Section

BOTTLENECKS: Registry[type["Bottleneck"]] = Registry("ddpm.latent.bottlenecks", "bottleneck")


class Bottleneck(nn.Module, ABC):
    """A kind of bottleneck, saved with its autoencoder.

    Args:
        channels: Of the latents.

    Attributes:
        Options: The class of its options in params.yaml; they are arguments of its constructor.
        channels_in: Channels that the encoder has to give.
    """

    Options: ClassVar[type[Section]]

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels_in = channels

    @abstractmethod
    def forward(
        self, encoded: Float[Tensor, "b c_in h w"], stream: torch.Generator
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b"]]:
        """Latents as the decoder sees them while the autoencoder trains, and the penalty of each image.

        Args:
            encoded: What the encoder gives.
            stream: Of noise, on the CPU.
        """

    @abstractmethod
    def latents(self, encoded: Float[Tensor, "b c_in h w"], stream: torch.Generator) -> Float[Tensor, "b c h w"]:
        """The latents that a diffusion model learns."""

    def decodable(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Latents as a diffusion model draws them, made into what the decoder takes; as they are unless overridden."""
        return latents
