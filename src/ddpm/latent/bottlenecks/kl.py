"""A variational bottleneck: latents are noisy, and regularised towards a standard normal (Kingma & Welling 2014)."""

from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from ddpm.latent.bottleneck import BOTTLENECKS, Bottleneck
from ddpm.run.params import Section

LOWEST, HIGHEST = -30.0, 20.0  # bounds of the logarithm of the variance


class KLOptions(Section):
    """Options of `KL`.

    Attributes:
        weight: Weight of the KL divergence, averaged over a latent's components, relative to the mean error per pixel.
    """

    weight: Annotated[float, Ge(0), Le(1)] = 1e-4


class KL(Bottleneck):
    """q(z | x) = N(mean, variance), both from the encoder. The penalty is its KL divergence from N(0, 1).

    Args:
        channels: Number of channels of the latents.
        weight: Weight of the penalty.
    """

    Options = KLOptions

    def __init__(self, channels: int, weight: float) -> None:
        super().__init__(channels)
        self.channels_in, self.weight = 2 * channels, weight

    def forward(
        self, encoded: Float[Tensor, "b c_in h w"], stream: torch.Generator
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b"]]:
        mean, log_variance = moments(encoded)
        return drawn(mean, log_variance, stream), self.weight * kl(mean, log_variance)

    def latents(self, encoded: Float[Tensor, "b c_in h w"], stream: torch.Generator) -> Float[Tensor, "b c h w"]:
        return drawn(*moments(encoded), stream)


def moments(encoded: Float[Tensor, "b c_in h w"]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
    """The mean of q(z | x) and the logarithm of its variance."""
    mean, log_variance = encoded.float().chunk(2, dim=1)
    return mean, log_variance.clamp(LOWEST, HIGHEST)


def drawn(
    mean: Float[Tensor, "*shape"], log_variance: Float[Tensor, "*shape"], stream: torch.Generator
) -> Float[Tensor, "*shape"]:
    """z ~ q(z | x), by the reparametrisation trick."""
    return mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=stream).to(mean)


def kl(mean: Float[Tensor, "b c h w"], log_variance: Float[Tensor, "b c h w"]) -> Float[Tensor, "b"]:
    """KL(N(mean, variance) || N(0, 1)) in nats, averaged over the components of each latent."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).mean(dim=(1, 2, 3)) / 2


BOTTLENECKS.register(__name__, KL)
