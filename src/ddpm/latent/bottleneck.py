"""The regularisation of latents between encoder and decoder (Rombach et al. 2022, section 3.1).

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
        channels: Number of channels of the latents.

    Attributes:
        Options: The class of its options in params.yaml, which are arguments of its constructor.
        channels_in: Number of channels of the encoder's output.
    """

    Options: ClassVar[type[Section]]

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels_in = channels

    @abstractmethod
    def forward(
        self, encoded: Float[Tensor, "b c_in h w"], stream: torch.Generator
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b"]]:
        """The input of the decoder in training, and the penalty for each image.

        Args:
            encoded: The output of the encoder.
            stream: Random generator for the noise, on the CPU.
        """

    @abstractmethod
    def latents(self, encoded: Float[Tensor, "b c_in h w"], stream: torch.Generator) -> Float[Tensor, "b c h w"]:
        """The latents that a diffusion model is trained on."""

    def decodable(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Map latents sampled by a diffusion model to the decoder's input. The default is the identity."""
        return latents
