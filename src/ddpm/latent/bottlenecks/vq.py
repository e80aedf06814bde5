"""Vector quantisation: each vector of a latent is replaced by the nearest code vector (van den Oord et al. 2017).

The codebook is learnt. As in Rombach et al. (2022), the diffusion model is trained on latents before quantisation, and
quantisation is the decoder's first layer.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Le
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ddpm.latent.bottleneck import BOTTLENECKS, Bottleneck
from ddpm.run.params import Section


class VQOptions(Section):
    """Options of `VQ`.

    Attributes:
        n_codes: Number of vectors in the codebook.
        commitment: Weight of the commitment loss.
    """

    n_codes: Annotated[int, Ge(2), Le(65_536)] = 512
    commitment: Annotated[float, Ge(0), Le(10)] = 0.25


class VQ(Bottleneck):
    """A codebook with the straight-through gradient estimator. The penalty is the sum of codebook and commitment loss.

    Args:
        channels: Length of a vector.
        n_codes: Number of vectors in the codebook.
        commitment: beta of equation 3 of van den Oord et al. (2017), the weight of the commitment loss.
    """

    Options = VQOptions

    def __init__(self, channels: int, n_codes: int, commitment: float) -> None:
        super().__init__(channels)
        self.commitment = commitment
        self.codes = nn.Embedding(n_codes, channels)

    def forward(
        self,
        encoded: Float[Tensor, "b c h w"],
        stream: torch.Generator,  # noqa: ARG002
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b"]]:
        z = encoded.float()
        e = self.decodable(z)
        to_code = (e - z.detach()).square().mean(dim=(1, 2, 3))
        to_encoder = (z - e.detach()).square().mean(dim=(1, 2, 3))
        return z + (e - z).detach(), to_code + self.commitment * to_encoder

    def latents(self, encoded: Float[Tensor, "b c h w"], stream: torch.Generator) -> Float[Tensor, "b c h w"]:  # noqa: ARG002
        return encoded.float()

    def decodable(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The latents, quantised to the nearest codes."""
        return rearrange(self.codes(self.nearest(latents)), "b h w c -> b c h w")

    def nearest(self, latents: Float[Tensor, "b c h w"]) -> Int64[Tensor, "b h w"]:
        """The indices of the codes nearest to the vectors of the latents, or of the first if there are several."""
        vectors, codes = rearrange(latents, "b c h w -> b h w c"), self.codes.weight
        # |z - e|^2 without |z|^2, which is the same for every code.
        return (codes.square().sum(1) - 2 * vectors @ codes.T).argmin(-1)


BOTTLENECKS.register(__name__, VQ)
