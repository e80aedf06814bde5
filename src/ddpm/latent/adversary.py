"""A patch discriminator, trained to tell reconstructions from images while the autoencoder is trained to fool it.

Pixel errors alone lead to blur. Rombach et al. (2022, section 3.1 and appendix G) follow Esser et al. (2021, section
3.1): a hinge loss on overlapping patches, scaled so that its gradient matches that of the pixel error.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le, MultipleOf
from jaxtyping import Float
from torch import Tensor, nn

from ddpm.networks.blocks import GroupNorm
from ddpm.run.params import Section

LARGEST_RATIO = 1e4  # maximum ratio of gradient norms, as in the paper's code


class AdversaryOptions(Section):
    """Options of the adversarial loss.

    Attributes:
        weight: Weight of the loss, or 0 for none.
        channels: Feature maps of the discriminator's first layer.
    """

    weight: Annotated[float, Ge(0), Le(100)] = 0.0
    channels: Annotated[int, Ge(8), Le(512), MultipleOf(8)] = 32


class Discriminator(nn.Sequential):
    """A convolutional network that gives each patch of 18x18 pixels a logit, above 0 for a real image.

    Args:
        images: Number of channels of the images.
        channels: Feature maps of its first layer, a multiple of 8.
    """

    def __init__(self, images: int, channels: int) -> None:
        super().__init__(
            nn.Conv2d(images, channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1),
            GroupNorm(8, 2 * channels),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * channels, 1, 3, padding=1),
        )

    def scores(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b patches"]:
        """The logits of all patches."""
        return self(images).float().flatten(1)


def discriminator_losses(
    discriminator: Discriminator, real: Float[Tensor, "b c h w"], made: Float[Tensor, "b c h w"]
) -> Float[Tensor, " b"]:
    """The discriminator's hinge loss for each pair of an image and its reconstruction. Chance level is 1."""
    of_real, of_made = discriminator.scores(real), discriminator.scores(made)
    return (F.relu(1 - of_real) + F.relu(1 + of_made)).mean(1) / 2


def adversarial_losses(
    discriminator: Discriminator,
    made: Float[Tensor, "b c h w"],
    errors: Float[Tensor, " b"],
    last: Tensor,
) -> Float[Tensor, " b"]:
    """The autoencoder's loss for each reconstruction, which is lower if the discriminator takes it for real.

    Args:
        discriminator: The discriminator.
        made: The reconstructions.
        errors: Their pixel errors. The loss is scaled so that both have gradients of the same norm.
        last: The weights of the autoencoder's last layer, at which these gradients are taken.
    """
    losses = -discriminator.scores(made).mean(1)
    [of_errors], [of_losses] = (torch.autograd.grad(part.sum(), last, retain_graph=True) for part in (errors, losses))
    return (of_errors.norm() / (of_losses.norm() + 1 / LARGEST_RATIO)).clamp(max=LARGEST_RATIO) * losses
