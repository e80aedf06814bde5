"""Low-resolution images with noise of a given level: the noise against its closed form."""

from math import cos, pi, sin

import pytest
import torch
from torch import nn

from ddpm.conditioning.kinds.low_resolution import LowResolution, scales, with_noise, without_noise
from ddpm.data.pooling import pooled
from ddpm.run.seeding import generator, global_stream

SHAPE, LOW = (2, 4, 6), (2, 2, 3)
N = 6000


def kind(max_level=1.0, dropout=0.0):
    with global_stream(0, "init"):
        return LowResolution(SHAPE, 0, 8, factor=2, max_level=max_level, dropout=dropout)


def images(n=5):
    return torch.rand(n, *SHAPE, generator=generator(0, "images")) * 2 - 1


def test_low_resolution_image_is_upsampled_by_repetition():
    conditioning = kind().eval()
    shown = conditioning(conditioning.encode(images(), None)).image
    assert torch.equal(pooled(shown, 2), pooled(images(), 2))
    assert torch.equal(shown[..., ::2, ::2], shown[..., 1::2, 1::2])


@pytest.mark.parametrize("level", [0.0, 0.1, 0.5, 1.0])
def test_noise_has_the_mean_and_variance_of_its_level(level):
    # Mean alpha x and variance sigma^2, alpha^2 + sigma^2 = 1: images of variance 1 keep it.
    low = torch.linspace(-1, 1, 12).reshape(LOW)
    noise = torch.randn(N, *LOW, generator=generator(0, "noise"), dtype=torch.float64)
    cond = with_noise(low.double().expand(N, *LOW), torch.full((N,), level), noise)
    assert torch.equal(cond[:, 2], torch.full((N, *LOW[1:]), level).double())
    alpha, sigma = cos(level * pi / 2), sin(level * pi / 2)
    # 12 pixels, 5.5 standard errors: one seed in 2 million fails.
    assert ((cond[:, :2].mean(0) - alpha * low).abs() <= 5.5 * sigma / N**0.5 + 1e-6).all()
    assert ((cond[:, :2].var(0) - sigma**2).abs() <= 5.5 * sigma**2 * (2 / N) ** 0.5).all()


@pytest.mark.parametrize("max_level", [0.3, 1.0])
def test_network_is_given_the_noise_level_in_training(max_level):
    conditioning = kind(max_level)
    conditioning.level = nn.Identity()  # so that the embedding is the input of this layer: alpha and sigma
    low = pooled(images(1), 2).expand(N, *LOW)
    with global_stream(0, "training"):
        told, shown = conditioning.train()(without_noise(low))[:2]
    alpha, sigma = told.T.reshape(2, N, 1, 1, 1).double()
    # The noise computed from alpha and sigma: standard normal, and not correlated with the level.
    noise = ((pooled(shown, 2).double() - alpha * low) / sigma).flatten(1)
    count = noise.numel()
    assert noise.mean().abs() < 5 / count**0.5
    assert (noise.var() - 1).abs() < 5 * (2 / count) ** 0.5
    energy = noise.square().mean(1)
    levels = torch.atan2(sigma, alpha).flatten() * 2 / torch.pi
    assert torch.corrcoef(torch.stack((energy, levels)))[0, 1].abs() < 5 / N**0.5
    # Uniform from 0 to max_level: the Kolmogorov-Smirnov distance of the levels from this distribution exceeds
    # 2.5 / sqrt(N) with probability 2 exp(-2 2.5^2) = 7e-6.
    ranks = levels.sort().values / max_level
    assert (ranks - torch.arange(1, N + 1) / N).abs().max() < 2.5 / N**0.5


def test_noise_is_seeded_and_added_in_training_only():
    conditioning, cond = kind(), without_noise(pooled(images(), 2))
    plain = conditioning.eval()(cond)
    assert torch.equal(plain.image, conditioning(cond).image)
    conditioning.train()
    drawn = []
    for stream in ("a", "a", "b"):
        with global_stream(0, stream):
            drawn.append(conditioning(cond))
    assert torch.equal(drawn[0].image, drawn[1].image)
    assert torch.equal(drawn[0].embedding, drawn[1].embedding)
    assert not torch.equal(drawn[0].image, drawn[2].image)
    unnoised = kind(max_level=0.0).train()(cond)
    assert torch.equal(unnoised.image, plain.image)


def test_dropped_image_is_grey_at_maximum_noise_level():
    conditioning = kind(dropout=0.999999)
    conditioning.level = nn.Identity()
    with global_stream(0, "training"):
        told, shown = conditioning.train()(without_noise(pooled(images(), 2)))[:2]
    assert torch.equal(shown, torch.zeros(5, *SHAPE))
    assert (told - torch.tensor([0.0, 1.0])).abs().max() < 1e-6


def test_draw_returns_training_images():
    conditioning = kind()
    conditioning.fit(images(), seed=0)
    drawn = conditioning.draw(3, range(50))
    assert torch.equal(drawn.unique(dim=0), without_noise(pooled(images(), 2)).unique(dim=0))


def test_kept_images_depend_on_the_seed():
    kept = []
    for seed in (0, 0, 1):
        conditioning = kind()
        conditioning.fit(images(50), seed)
        kept.append(conditioning.kept.clone())
    assert torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[0], kept[2])


def test_scales_lie_on_the_unit_circle():
    alpha, sigma = scales(torch.linspace(0, 1, 11, dtype=torch.float64))
    assert (alpha**2 + sigma**2 - 1).abs().max() < 1e-12
    assert (alpha[0], sigma[0]) == (1, 0)
    assert alpha[-1].abs() < 1e-12


@pytest.mark.parametrize("level", [-0.1, 1.1, float("nan")])
def test_level_out_of_range_raises(level):
    with pytest.raises(ValueError, match=f"level is {level}; it must be in 0..1"):
        with_noise(torch.zeros(2, *LOW), torch.tensor([0.5, level]), torch.zeros(2, *LOW))


def test_factor_must_divide_the_image_size():
    with pytest.raises(ValueError, match="factor is 4; it must divide the images' height and width, 4 and 6"):
        LowResolution(SHAPE, 0, 8, factor=4, max_level=1.0, dropout=0.0)
