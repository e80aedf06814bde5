"""Sampling from a model: what it gives back, and what it must leave alone."""

import pytest
import torch
from analytic import SHAPE, Linear, streams
from torch import nn

from ddpm.sampling.sample import sample, sample_steps
from ddpm.run.seeding import generator


def test_shapes_and_number_of_steps():
    model = Linear()
    steps = sample(model, 5, return_all_steps=True, generator=generator(0, "a"))
    result = sample(model, 5, generator=generator(0, "a"))
    assert len(steps) == 21
    assert all(x.shape == (5, *SHAPE) for x in steps)
    assert torch.equal(steps[-1], result)
    assert sample(model, 0).shape == (0, *SHAPE)


def test_it_starts_from_pure_noise():
    x = sample(Linear(), 400, return_all_steps=True, generator=generator(0, "a"))[0]
    n = x.numel()
    assert abs(x.mean()) < 4.5 / n**0.5
    assert abs(x.var() - 1) < 4.5 * (2 / n) ** 0.5


def test_no_noise_at_the_last_step():
    model = Linear()
    steps = sample(model, 2, return_all_steps=True, generator=generator(0, "a"))
    with torch.no_grad():
        eps = model(steps[-2], torch.tensor([1, 1]))
    beta = 1e-4  # at t = 1, alpha = alpha_bar = 1 - beta
    expected = (steps[-2] - beta**0.5 * eps) / (1 - beta) ** 0.5
    assert (steps[-1] - expected).abs().max() < 1e-6


def test_an_image_does_not_depend_on_its_batch():
    model = Linear()
    *_, together = sample_steps(model, streams(7))
    for i in range(7):
        *_, alone = sample_steps(model, [generator(0, "image", i)])
        assert (together[i] - alone[0]).abs().max() < 1e-6


def test_mode_and_global_state_are_left_alone():
    model = Linear()
    model.dropout = nn.Dropout(0.5)
    model.train()
    model.dropout.eval()
    before = torch.get_rng_state()
    sample(model, 2)
    sample(model, 2, generator=generator(0, "a"))
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
    assert not model.dropout.training


def test_without_a_generator_the_global_seed_decides():
    model = Linear()
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(sample(model, 2))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_what_cannot_be_sampled_says_why():
    model = Linear()
    with pytest.raises(ValueError, match="n_samples is -1"):
        sample(model, -1)
    model.noise_schedule = None
    with pytest.raises(ValueError, match="no noise_schedule"):
        sample(model, 1)
