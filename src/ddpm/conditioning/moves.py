"""Non-leaking augmentation (Karras et al. 2022, appendix F.2): the network is conditioned on flips and shifts.

Sampling is conditioned on no augmentation, so the flips and shifts of training do not leak into samples.
"""

from jaxtyping import Float
from torch import Tensor, nn

from ddpm.data.augmentation import N_MOVES


class MovesEmbedding(nn.Sequential):
    """Embedding of flips and shifts that is added to the timestep embedding.

    It is 0 for no augmentation, since no layer has a bias.

    Args:
        size: Length of the vector.
    """

    def __init__(self, size: int) -> None:
        super().__init__(nn.Linear(N_MOVES, size, bias=False), nn.SiLU(), nn.Linear(size, size, bias=False))

    def forward(self, moves: Float[Tensor, "b moves"]) -> Float[Tensor, "b size"]:
        """Embed the flips and shifts that `ddpm.data.augmentation.augmented` returns."""
        return super().forward(moves)
