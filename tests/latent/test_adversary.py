"""The adversarial loss of autoencoders, by hand calculation and by its gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ddpm.latent.adversary import AdversaryOptions, Discriminator, adversarial_losses, discriminator_losses


class Brightness(Discriminator):
    """Its only patch is the image, and its score the sum of the pixels."""

    def __init__(self):
        nn.Sequential.__init__(self, nn.Flatten(), nn.Linear(4, 1, bias=False))
        nn.init.ones_(self[1].weight)


def images(*sums):
    return torch.tensor(sums).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2) / 4


def test_hinge_losses_of_discriminator():
    """Scores above 1 for images and below -1 for reconstructions cost nothing. Others cost their distance from that."""
    found = discriminator_losses(Brightness(), images(2.0, 0.5, 0.0), images(-3.0, -0.5, 0.5))
    assert found.tolist() == pytest.approx([0, (0.5 + 0.5) / 2, (1 + 1.5) / 2])


def test_loss_is_a_mean_over_patches():
    discriminator, x = Discriminator(1, 8), torch.randn(2, 1, 16, 16)
    for parameter in discriminator.parameters():
        nn.init.zeros_(parameter)
    assert discriminator.scores(x).shape == (2, 16)
    assert discriminator_losses(discriminator, x, -x).tolist() == [1, 1]  # chance level


@given(st.integers(0, 1000), st.floats(0.5, 100))
def test_adversarial_gradient_has_the_norm_of_the_pixel_errors_gradient(seed, scale):
    """The norms are equal at the last layer for any scale of the scores, and following the gradient raises them."""
    draw = torch.Generator().manual_seed(seed)
    last = nn.Parameter(torch.randn(1, 1, 3, 3, generator=draw))
    x, target = (torch.randn(5, 1, 12, 12, generator=draw) for _ in range(2))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        discriminator = Discriminator(1, 8)
    with torch.no_grad():
        discriminator[-1].weight.mul_(scale)

    def made():
        return nn.functional.conv2d(x, last, padding=1)

    def gradient(loss):
        return torch.autograd.grad(loss.sum(), last)[0]

    errors = (made() - target).abs().mean((1, 2, 3))
    found = gradient(adversarial_losses(discriminator, now := made(), (now - target).abs().mean((1, 2, 3)), last))
    assert found.norm() == pytest.approx(gradient(errors).norm().item(), rel=1e-2)  # 1e-4 is added to the divisor
    before = discriminator.scores(made()).mean().item()
    with torch.no_grad():
        last -= 1e-4 * found / found.norm()
    assert discriminator.scores(made()).mean().item() > before - 1e-6 * scale


def test_discriminator_scores_patches_of_18_pixels():
    """A pixel changes the score of the middle patch only if it is within 18 x 18 pixels, apart from the norms."""
    discriminator = Discriminator(1, 8)
    discriminator[3] = nn.Identity()  # GroupNorm, which sees the whole image
    x = torch.randn(1, 1, 40, 40, requires_grad=True)
    discriminator(x)[0, 0, 5, 5].backward()
    rows, columns = x.grad[0, 0].nonzero().T
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (18, 18)


def test_no_adversary_by_default():
    assert AdversaryOptions().weight == 0
