"""Consistency tuning: on Gaussian data, whose optimum is known in closed form, and on two images."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ddpm.diffusion.consistency import HUBER, STAGES, consistency_loss, earlier_steps
from ddpm.diffusion.forward import add_noise
from ddpm.diffusion.posterior import target
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.run.seeding import generator

T, STD = 20, 0.15
LAST = 1 - 1e-6  # progress at the end of the training, when r is t - 1 for t up to 2^STAGES
SCHEDULE = NoiseSchedule(T, betas=SCHEDULES["cosine"](T))


@settings(deadline=None)
@given(num_steps=st.lists(st.integers(1, 1000), min_size=1).map(torch.tensor), progress=st.floats(0.0, LAST))
def test_earlier_steps_approach_t(num_steps, progress):
    r = earlier_steps(num_steps, progress)
    assert ((r >= 0) & (r < num_steps)).all()
    assert (earlier_steps(num_steps, 0.0) <= r).all()
    assert torch.equal(earlier_steps(num_steps, 0.0), num_steps // 2)
    assert torch.equal(num_steps - earlier_steps(num_steps, LAST), -(-num_steps // 2**STAGES))


def scales(t):
    """alpha_t and sigma_t of x_t = alpha_t x_0 + sigma_t eps."""
    alpha_bar = SCHEDULE.alpha_bar(torch.tensor([t])).item()
    return alpha_bar**0.5, (1 - alpha_bar) ** 0.5


def best_factors():
    """a_t of the best f(x_t, t) = a_t x_t for x_0 ~ N(0, STD^2): each step is a linear regression on the previous."""
    factors = [1.0]
    for t in range(1, T + 1):
        (alpha, sigma), (alpha_r, sigma_r) = scales(t), scales(t - 1)
        covariance = alpha * alpha_r * STD**2 + sigma * sigma_r
        factors.append(factors[-1] * covariance / (alpha**2 * STD**2 + sigma**2))
    return torch.tensor(factors)


def slopes(factors, prediction):
    """The derivative of the loss at each t by factors[t], with the best estimate at r.

    The images have enough pixels that means are within half a percent of expectations.
    """
    stream = generator(0, "gaussian")
    x0, eps = STD * torch.randn(T, 1, 300, 400, generator=stream), torch.randn(T, 1, 300, 400, generator=stream)
    steps = torch.arange(1, T + 1)
    at_t, at_r = factors.clone().requires_grad_(), best_factors().requires_grad_()
    used = iter((at_t, at_r))

    def predict(x, t):
        estimate = next(used)[t].reshape(-1, 1, 1, 1) * x
        alpha, sigma = (column.reshape(-1, 1, 1, 1) for column in torch.tensor([scales(int(i)) for i in t]).T)
        return target(prediction, estimate, (x - alpha * estimate) / sigma, t, SCHEDULE)

    xt = add_noise(x0, eps, steps, SCHEDULE)
    consistency_loss(predict, prediction, x0, eps, xt, steps, SCHEDULE, LAST).sum().backward()
    assert at_r.grad is None  # the estimate at r is the target and gets no gradient
    return at_t.grad[1:]


@pytest.mark.parametrize("prediction", ["x0", "v"])
def test_optimum_on_gaussian_data_matches_closed_form(prediction):
    best = best_factors()
    low, middle, high = (slopes(share * best, prediction) for share in (0.95, 1.0, 1.05))
    assert (low < -8 * middle.abs()).all()  # a slope of 0 within half a percent, against one of five
    assert (high > 8 * middle.abs()).all()


def test_loss_at_t_1_is_distance_to_the_image():
    x0, eps = torch.rand(2, 2, 1, 3, 3) * 2 - 1
    steps = torch.ones(2, dtype=torch.int64)
    found = torch.rand(2, 1, 3, 3)
    loss = consistency_loss(lambda *_: found, "x0", x0, eps, x0, steps, SCHEDULE, 0.5)
    distance = (found - x0).square().mean((1, 2, 3))
    torch.testing.assert_close(loss, T * ((distance + HUBER**2).sqrt() - HUBER))


def test_both_evaluations_share_the_rng_state():
    """Otherwise the target would come from another network or another condition."""
    draws = []

    def predict(x, _):
        draws.append(torch.rand(8))
        return x

    steps, x = torch.tensor([10]), torch.zeros(1, 1, 2, 2)
    consistency_loss(predict, "x0", x, x, x, steps, SCHEDULE, 0.0)
    consistency_loss(predict, "x0", x, x, x, steps, SCHEDULE, 0.0)
    assert torch.equal(draws[0], draws[1])
    assert torch.equal(draws[2], draws[3])
    assert not torch.equal(draws[0], draws[2])


def test_target_is_clipped_to_image_range():
    aims = iter((torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 5.0)))
    steps, x = torch.tensor([10]), torch.zeros(1, 1, 2, 2)
    loss = consistency_loss(lambda *_: next(aims), "x0", x, x, x, steps, SCHEDULE, 0.0)
    assert loss.item() == pytest.approx(T / 5 * ((1 + HUBER**2) ** 0.5 - HUBER))  # 1 and not 5 away, and t - r is 5


def test_tuned_network_generates_two_images_in_one_step():
    """From pure noise, the best denoiser gives their mean. After tuning, one evaluation gives one of them."""
    network = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))

    def predict(x, t):
        told = torch.cat((x.reshape(-1, 1), t[:, None] / T), dim=1)
        return network(told).reshape(x.shape)

    def train(n_steps, lr, loss_of):
        optimizer = torch.optim.Adam(network.parameters(), lr)
        for step in range(n_steps):
            optimizer.param_groups[0]["lr"] = lr * (1 - step / n_steps)
            x0 = 0.5 * (torch.randint(2, (256, 1, 1, 1), generator=stream) * 2.0 - 1)
            eps, steps = torch.randn(256, 1, 1, 1, generator=stream), torch.randint(1, T + 1, (256,), generator=stream)
            loss = loss_of(x0, eps, add_noise(x0, eps, steps, SCHEDULE), steps, step / n_steps).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def far_from_both():
        with torch.no_grad():
            made = predict(noise, torch.full((1000,), T))
        return ((made.abs() - 0.5).abs().mean().item(), made.mean().item())

    stream = generator(0, "two images")
    noise = torch.randn(1000, 1, 1, 1, generator=stream)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for layer in network[::2]:
            layer.reset_parameters()
    train(600, 5e-3, lambda x0, eps, xt, t, _: (predict(xt, t) - x0).square())  # noqa: ARG005
    denoised, _ = far_from_both()
    train(1500, 5e-3, lambda x0, eps, xt, t, p: consistency_loss(predict, "x0", x0, eps, xt, t, SCHEDULE, p))
    tuned, mean = far_from_both()
    assert denoised > 0.4  # 0.5 if it were exactly the mean
    assert tuned < 0.2
    assert abs(mean) < 0.1  # half of the noise maps to each
