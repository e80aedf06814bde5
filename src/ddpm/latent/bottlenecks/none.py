"""No bottleneck: latents are the output of the encoder. With factor 1 they are the images themselves."""

import torch
from jaxtyping import Float
from torch import Tensor

from ddpm.latent.bottleneck import BOTTLENECKS, Bottleneck
from ddpm.run.params import NoOptions


class Nothing(Bottleneck):
    """The identity, without penalty."""

    Options = NoOptions

    def forward(
        self, encoded: Float[Tensor, "b c h w"], stream: torch.Generator
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b"]]:
        return self.latents(encoded, stream), torch.zeros(len(encoded), device=encoded.device)

    def latents(self, encoded: Float[Tensor, "b c h w"], stream: torch.Generator) -> Float[Tensor, "b c h w"]:  # noqa: ARG002
        return encoded.float()


BOTTLENECKS.register(__name__, Nothing)
