"""The reverse process from any step: exact conditional moments, interpolation against pixels, equation 15 by hand."""

import pytest
import torch
from analytic import SHAPE, Gaussian, Linear, streams

from ddpm.diffusion.forward import add_noise
from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.run.seeding import generator
from ddpm.sampling.chain import Chain, sample_steps
from ddpm.sampling.samplers.ancestral import AncestralOptions
from ddpm.sampling.spacing import timesteps

LAMBDAS = torch.tensor([0.0, 0.25, 0.5, 1.0])


class Exact(Linear):
    """The exact x_0 prediction for data ~ N(mu, s^2)."""

    def __init__(self, max_steps=200, mu=0.4, s=0.5):
        super().__init__(max_steps, prediction="x0")
        self.noise_schedule = NoiseSchedule(max_steps, betas=cosine_schedule(max_steps))
        self.data = Gaussian(self.noise_schedule, mu, s)

    def forward(self, images, num_steps):
        return self.data.x0(images, num_steps[0].item())


def image(index):
    return 2 * torch.rand(SHAPE, generator=generator(1, "pixels", index)) - 1


def noise():
    return torch.randn(SHAPE, generator=generator(2, "noise"))


def same(n):
    return [generator(3, "one") for _ in range(n)]


@pytest.mark.parametrize(("depth", "index"), [(0.0, 0), (0.1, 0), (0.2, 1), (0.4, 2), (0.6, 2), (0.9, 4), (1.0, 4)])
def test_index_is_nearest_to_depth(depth, index):
    assert Chain(Linear(), torch.arange(5)).index(depth) == index


@pytest.mark.parametrize("index", [50, 100, 150])
def test_decoding_a_shared_xt_follows_posterior_of_x0(index):
    # For Gaussian data, x_0 given x_t is Gaussian (Bishop 2006, equations 2.116, 2.117), the same for every chain.
    mu, s = 0.4, 0.5
    model = Exact(mu=mu, s=s)
    chain = Chain(model, timesteps(NoiseSchedule(200), 200), "fixed_small")
    alpha_bar = model.noise_schedule.alpha_bar(index).item()
    xt = torch.full(SHAPE, 0.3)
    x0 = chain.decode(xt.expand(500, *SHAPE), index, streams(500))
    precision = 1 / s**2 + alpha_bar / (1 - alpha_bar)
    mean, std = (mu / s**2 + alpha_bar**0.5 * 0.3 / (1 - alpha_bar)) / precision, precision**-0.5
    n = x0.numel()  # 30,000 independent values
    assert abs(x0.mean() - mean) < 4.5 * std / n**0.5
    assert abs(x0.std() - std) < (4.5 / (2 * n) ** 0.5 + 0.03) * std  # steps of this size lose 1-2 % of the spread


@pytest.mark.parametrize("variance", ["fixed_large", "fixed_small"])
def test_decoding_a_shared_xt_follows_recursion_of_linear_model(variance):
    # x_{t-1} = a x_t + b + sigma z, by equations 7 and 15 written out for numbers.
    model, kept, index = Linear(20, b=0.0), timesteps(NoiseSchedule(20), 10), 6
    alpha_bars = [1.0, *model.noise_schedule.alpha_bars.tolist()]
    mean, var = 0.3, 0.0
    for i in range(index, 0, -1):
        now, before = alpha_bars[kept[i]], alpha_bars[kept[i - 1]]
        alpha = now / before
        gain = (1 - 0.3 * (1 - now) ** 0.5) / now**0.5  # x_0 as a multiple of x_t, with eps = 0.3 x_t
        a = (before**0.5 * (1 - alpha) * gain + alpha**0.5 * (1 - before)) / (1 - now)
        sigma2 = (1 - alpha) * ((1 - before) / (1 - now) if variance == "fixed_small" else 1.0)
        mean, var = a * mean, a**2 * var + (sigma2 if i > 1 else 0.0)
    x0 = Chain(model, kept, variance).decode(torch.full((500, *SHAPE), 0.3), index, streams(500))
    n = x0.numel()
    assert abs(x0.mean() - mean) < 4.5 * (var / n) ** 0.5
    assert abs(x0.var() / var - 1) < 4.5 * (2 / n) ** 0.5


def test_each_chain_uses_its_own_noise():
    chain, xt = Chain(Linear(20), timesteps(NoiseSchedule(20), 10)), torch.stack([image(0)] * 3)
    together = chain.decode(xt, 5, streams(3))
    alone = torch.cat([chain.decode(xt[:1], 5, [generator(0, "image", i)]) for i in range(3)])
    assert (together - alone).abs().max() < 1e-6  # batches may round differently
    assert min((together[i] - together[j]).abs().max() for i, j in ((0, 1), (0, 2), (1, 2))) > 0.01


def test_walk_can_be_resumed_by_decode():
    chain = Chain(Linear(20), timesteps(NoiseSchedule(20), 10), "fixed_small")
    drawn = streams(2)
    for index, xt in zip(range(10, -1, -1), chain.walk(drawn), strict=True):
        if index == 4:
            rest = chain.decode(xt, 4, drawn)
            break
    *_, whole = sample_steps(
        Linear(20), streams(2), timesteps(NoiseSchedule(20), 10), options=AncestralOptions(variance="fixed_small")
    )
    assert torch.equal(rest, whole)


@pytest.mark.parametrize("depth", [0.25, 1.0])
def test_interpolation_ends_match_reconstructions(depth):
    chain = Chain(Linear(20), timesteps(NoiseSchedule(20), 8), "fixed_small", clip_sample=True)
    index = chain.index(depth)
    assert index == 8 * depth
    mixed = chain.interpolate(image(0), image(1), LAMBDAS, index, noise(), same(4))
    for x0, found in ((image(0), mixed[0]), (image(1), mixed[-1])):
        steps = torch.tensor([round(20 * depth)])
        xt = add_noise(x0[None], noise()[None], steps, chain.model.noise_schedule)
        assert (chain.decode(xt, index, same(1))[0] - found).abs().max() < 1e-6  # batches may round differently


def test_interpolation_at_depth_0_is_linear_in_pixels():
    chain = Chain(Linear(20), timesteps(NoiseSchedule(20), 8))
    mixed = chain.interpolate(image(0), image(1), LAMBDAS, chain.index(0.0), noise(), same(4))
    expected = torch.stack([(1 - w) * image(0) + w * image(1) for w in LAMBDAS.tolist()])
    assert (mixed - expected).abs().max() < 1e-6  # lerp rounds differently
    assert torch.equal(mixed[0], image(0))
    assert torch.equal(mixed[-1], image(1))


def test_interpolated_xt_has_noise_level_of_its_timestep():
    # Equal to the same noise added to mixed pixels: sqrt(alpha_bar) and sqrt(1 - alpha_bar) by hand. The model's
    # first input is caught.
    seen = []
    model = Linear(20)
    model.register_forward_hook(lambda _, inputs, __: seen.append(inputs))
    chain = Chain(model, timesteps(NoiseSchedule(20), 5))
    chain.interpolate(image(0), image(1), LAMBDAS, 3, noise(), same(4))
    xt, num_steps = seen[0]
    assert num_steps.tolist() == [12] * 4
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 20, dtype=torch.float64), 0)[11].item()
    for weight, mixture in zip(LAMBDAS.tolist(), xt, strict=True):
        pixels = (1 - weight) * image(0) + weight * image(1)
        assert (mixture - (alpha_bar**0.5 * pixels + (1 - alpha_bar) ** 0.5 * noise())).abs().max() < 1e-6


@pytest.mark.parametrize("clip_sample", [False, True])
def test_estimate_is_equation_15(clip_sample):
    chain = Chain(Linear(20), timesteps(NoiseSchedule(20), 5), clip_sample=clip_sample)
    xt = 3 * noise()[None]
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 20, dtype=torch.float64), 0)[11].item()
    expected = (xt - (1 - alpha_bar) ** 0.5 * (0.3 * xt + 0.01 * 12)) / alpha_bar**0.5
    expected = expected.clamp(-1, 1) if clip_sample else expected
    assert (chain.estimate(xt, 3) - expected).abs().max() < 1e-5  # float32, with values up to 9


@pytest.mark.parametrize("clip_sample", [False, True])
def test_last_estimate_equals_sample(clip_sample):
    # Equation 7 at t = 1: the mean is x_0 and there is no variance.
    chain = Chain(Linear(20), timesteps(NoiseSchedule(20), 5), clip_sample=clip_sample)
    *_, before, x0 = chain.walk(streams(2))
    assert (chain.estimate(before, 1) - x0).abs().max() < 1e-6
    assert (x0.abs().max() <= 1) == clip_sample
