"""Non-leaking augmentation (Karras et al. 2022, appendix F.2): a network is told how each training image was moved.

Samples are of images that were not moved, so flips and shifts are seen in training and never drawn.
"""

from jaxtyping import Float
from torch import Tensor, nn

from ddpm.data.augmentation import N_MOVES


class MovesEmbedding(nn.Sequential):
    """A vector that is added to the step embedding; 0 for an image that was not moved, as no layer has a bias.

    Args:
        size: Length of the vector.
    """

    def __init__(self, size: int) -> None:
        super().__init__(nn.Linear(N_MOVES, size, bias=False), nn.SiLU(), nn.Linear(size, size, bias=False))

    def forward(self, moves: Float[Tensor, "b moves"]) -> Float[Tensor, "b size"]:
        """Embed what `ddpm.data.augmentation.augmented` says of each image."""
        return super().forward(moves)
