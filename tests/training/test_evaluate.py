"""Held-out losses against closed forms, and the images, timesteps and noise they use."""

import pytest
import torch
from scipy.stats import norm
from training.small import Scale, images

from ddpm.diffusion.forward import add_noise
from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.run.seeding import generator
from ddpm.training.evaluate import BATCH, loss_by_timestep, simple_loss
from ddpm.training.loop import Examples

ERRORS = norm.isf(0.5e-6 / 30)  # standard errors: one of 30 means exceeds it once in a million


def scale(w, max_steps, prediction="eps"):
    model = Scale(w)
    model.noise_schedule, model.prediction = NoiseSchedule(max_steps), prediction
    return model


@pytest.mark.parametrize("w", [0.0, 0.7])
def test_held_out_losses_match_closed_form(w):
    # For x_0 = 0 the input is sqrt(1 - alpha_bar_t) eps, so the loss at t is (w sqrt(1 - alpha_bar_t) - 1)^2 E[eps^2].
    model = scale(w, 30)
    losses = loss_by_timestep(model, Examples(torch.zeros(10, 1, 2, 2)), n_images=4000, seed=0)
    expected = (w * (1 - model.noise_schedule.alpha_bars).sqrt() - 1) ** 2
    # eps^2 has variance 2, and there are 16,000 values at each t.
    assert ((torch.tensor(losses) - expected).abs() <= ERRORS * expected * (2 / 16_000) ** 0.5).all()
    # There are 36,000 values, with factors of at most 1.
    mean = simple_loss(model, Examples(torch.zeros(9000, 1, 2, 2)), seed=0)
    assert abs(mean - expected.mean()) < ERRORS * (2 / 36_000) ** 0.5


class Asked(Scale):
    """Records the images and timesteps of each call."""

    def __init__(self, max_steps):
        super().__init__()
        self.noise_schedule = NoiseSchedule(max_steps)
        self.seen = []

    def forward(self, images, num_steps):
        self.seen.append((images, num_steps))
        return super().forward(images, num_steps)


def test_simple_loss_spreads_timesteps_evenly():
    model = Asked(7)
    simple_loss(model, Examples(torch.zeros(19, 1, 2, 2)), seed=0)
    [(_, num_steps)] = model.seen
    # From 1 to 7 in 18 equal parts of 1/3.
    assert num_steps.tolist() == [1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7]


def test_simple_loss_is_equation_14_with_noise_of_the_seed():
    held_out, model = images(BATCH + 9, shape=(1, 2, 2)), scale(0.6, 30)
    num_steps = torch.linspace(1, 30, len(held_out)).round().long()
    stream = generator(4, "eval")
    eps = torch.cat([torch.randn(batch.shape, generator=stream) for batch in held_out.split(BATCH)])
    expected = (0.6 * add_noise(held_out, eps, num_steps, model.noise_schedule) - eps).square().mean().item()
    torch.manual_seed(1)
    assert simple_loss(model, Examples(held_out), seed=4) == pytest.approx(expected, rel=1e-6)
    assert simple_loss(model, Examples(held_out), seed=5) != pytest.approx(expected, rel=1e-6)


def test_loss_by_timestep_uses_first_images_at_every_timestep():
    # The network predicts x_0 = 0, so at any t the loss is the mean square of 1, 2, 3, ...
    held_out = torch.arange(1.0, 11).reshape(10, 1, 1, 1).expand(10, 1, 2, 2)
    model = scale(0.0, 7, "x0")
    assert loss_by_timestep(model, Examples(held_out), n_images=3, seed=0) == pytest.approx(7 * [14 / 3])
    # 12 of 10 images: the first two repeat
    assert loss_by_timestep(model, Examples(held_out), n_images=12, seed=0) == pytest.approx(7 * [(385 + 5) / 12])


def test_each_timestep_has_its_own_noise():
    model = Asked(3)
    loss_by_timestep(model, Examples(torch.zeros(5, 1, 2, 2)), n_images=5, seed=0)
    assert [num_steps.tolist() for _, num_steps in model.seen] == [[1] * 5, [2] * 5, [3] * 5]
    noises = [x / (1 - model.noise_schedule.alpha_bar(t[:1])).sqrt().float() for x, t in model.seen]
    assert (noises[0] - noises[1]).abs().max() > 0.1
    assert (noises[1] - noises[2]).abs().max() > 0.1


class Tell(DiffusionModel):
    """Predicts its cond as x_0."""

    def __init__(self):
        super().__init__()
        self.img_shape, self.noise_schedule, self.prediction = (1, 2, 2), NoiseSchedule(5), "x0"

    def forward(self, images, num_steps, cond):  # noqa: ARG002
        return cond.reshape(-1, 1, 1, 1).expand_as(images)


def test_conditioning_stays_aligned_with_images():
    numbers = torch.linspace(-1, 1, BATCH + 9)
    held_out = Examples(numbers.reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2), numbers)
    assert simple_loss(Tell(), held_out, seed=0) == 0
    assert loss_by_timestep(Tell(), held_out, n_images=2 * BATCH + 30, seed=0) == [0] * 5


def test_evaluation_uses_eval_mode_without_gradients():
    class Mode(Scale):
        def forward(self, images, num_steps):
            modes.append((self.training, torch.is_grad_enabled()))
            return super().forward(images, num_steps)

    modes, model = [], Mode()
    model.noise_schedule = NoiseSchedule(5)
    simple_loss(model.train(), Examples(torch.zeros(2, 1, 2, 2)), seed=0)
    loss_by_timestep(model, Examples(torch.zeros(2, 1, 2, 2)), 2, seed=0)
    assert set(modes) == {(False, False)}
    assert model.training


def test_simple_loss_requires_noise_schedule():
    with pytest.raises(ValueError, match="no noise_schedule"):
        simple_loss(Scale(), Examples(torch.zeros(2, 1, 2, 2)), seed=0)
