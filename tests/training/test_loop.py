"""Algorithm 1: against optimisation done by hand, for its order of draws, and for failing loudly."""

import math

import pytest
import torch
from torch import nn

from ddpm.data.order import batches
from ddpm.diffusion.forward import noise_img
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.errors import UserError
from ddpm.networks.model import DiffusionModel
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.sections import Training
from ddpm.run.seeding import generator, global_stream
from ddpm.training.evaluate import loss_by_timestep, simple_loss
from ddpm.training.loop import COURSE_DEFAULTS, fit, lr_factor

SHAPE = (3, 4, 5)


class Scale(DiffusionModel):
    """eps = w x: one weight, so that a training run fits on a sheet of paper."""

    def __init__(self, w=0.0):
        super().__init__()
        self.img_shape = (1, 2, 2)
        self.noise_schedule = None
        self.w = nn.Parameter(torch.tensor(w))

    def forward(self, images, num_steps):  # noqa: ARG002
        return self.w * images


def params(**changes):
    small = {"max_steps": 50, "lr": 0.01, "batch_size": 8, "epochs": 2.0, "log_interval": 1}
    return Training(**{**COURSE_DEFAULTS, **small, **changes})


def tiny(seed=0):
    with global_stream(seed, "init"):
        return TinyDiffuser(TinyDiffuserConfig(SHAPE, 128, 50))


def images(n, name="images"):
    return torch.rand(n, *SHAPE, generator=generator(0, name)) * 2 - 1


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_training_is_adam_on_equation_14(ema_decay):
    data = torch.rand(20, 1, 2, 2, generator=generator(0, "data")) * 2 - 1
    model = Scale()
    history = fit(model, params(ema_decay=ema_decay), data, seed=5)

    # Adam (Kingma & Ba 2015, algorithm 1) on d/dw mean((w x - eps)^2), in plain numbers.
    schedule = NoiseSchedule(50)
    w, m, v, average, losses = 0.0, 0.0, 0.0, None, []
    for step, (chosen, _) in enumerate(zip(batches(20, 8, 5), range(6), strict=False), start=1):
        _, eps, xt = noise_img(data[chosen], schedule, generator=generator(5, "noise", step))
        losses.append(((w * xt - eps) ** 2).mean().item())
        grad = (2 * (w * xt - eps) * xt).mean().item()
        m = 0.9 * m + 0.1 * grad
        v = 0.999 * v + 0.001 * grad**2
        w -= 0.01 * (m / (1 - 0.9**step)) / (math.sqrt(v / (1 - 0.999**step)) + 1e-8)
        average = w if average is None else ema_decay * average + (1 - ema_decay) * w
    assert history.steps == 6
    assert max(abs(a - b) for (_, a), b in zip(history.train_loss, losses, strict=True)) < 1e-5
    assert abs(model.w.item() - average) < 1e-5


def test_the_loss_by_quartile_splits_the_loss_by_the_steps_drawn():
    data = torch.rand(20, 1, 2, 2, generator=generator(0, "data")) * 2 - 1
    history = fit(Scale(), params(log_interval=3, lr=1e-9), data, seed=5)
    schedule, quartiles = NoiseSchedule(50), (range(1, 14), range(14, 26), range(26, 39), range(39, 51))
    drawn, expected = [], []
    for step, (chosen, _) in enumerate(zip(batches(20, 8, 5), range(6), strict=False), start=1):
        num_steps, eps, _ = noise_img(data[chosen], schedule, generator=generator(5, "noise", step))
        drawn += zip(num_steps.tolist(), eps.square().mean((1, 2, 3)).tolist(), strict=True)  # w stays 0
        if step % 3 == 0:
            found = [[loss for t, loss in drawn if t in quartile] for quartile in quartiles]
            expected.append((step, [sum(losses) / len(losses) if losses else None for losses in found]))
            drawn = []
    assert [step for step, _ in history.quartile_loss] == [3, 6]
    for (_, losses), (_, by_hand) in zip(history.quartile_loss, expected, strict=True):
        assert losses == pytest.approx(by_hand, rel=1e-5)  # float32


def test_a_quartile_without_a_step_has_no_loss():
    _, losses = fit(Scale(), params(max_steps=2), torch.zeros(20, 1, 2, 2)).quartile_loss[-1]
    assert [loss is None for loss in losses] == [False, True, False, True]


def test_the_model_learns_to_tell_noise():
    # A constant image leaves nothing to guess: eps = (x_t - sqrt(alpha_bar) c) / sqrt(1 - alpha_bar) exactly, so a good
    # fit comes far below the error 1 of predicting no noise at all.
    data = torch.full((256, *SHAPE), 0.5)
    model = tiny()
    history = fit(model, params(batch_size=32, epochs=60.0, schedule="rescaled_linear"), data, data[:64])
    assert history.eval_loss[-1][1] < 0.15
    assert model.noise_schedule is not None


def test_same_seed_same_weights_and_another_seed_others():
    weights = []
    for seed in (1, 1, 2):
        model = tiny()
        fit(model, params(), images(40), seed=seed)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_global_state_and_tracking_do_not_change_the_weights():
    class Recorder:
        def __init__(self):
            self.metrics, self.images = [], []

        def log_metrics(self, metrics, step):
            torch.rand(1)
            self.metrics.append((step, metrics))

        def log_image(self, image, key, step):
            self.images.append((step, key, image))

    results = []
    for log in (None, Recorder()):
        torch.manual_seed(123 if log else 7)
        model = tiny()
        fit(model, params(img_log_interval=4), images(40), images(8, "eval"), log=log)
        results.append(model.state_dict())
    assert all(torch.equal(results[0][key], results[1][key]) for key in results[0])
    assert [step for step, metrics in log.metrics if "train_loss" in metrics] == list(range(1, 11))
    assert [step for step, *_ in log.images] == [4, 8, 10]
    assert log.images[0][2].shape == (3, 3 * 8, 15)


def test_stratified_steps_meet_every_step_once_in_a_batch_of_as_many():
    class Asked(Scale):
        def forward(self, images, num_steps):
            asked.append(sorted(num_steps.tolist()))
            return super().forward(images, num_steps)

    data = torch.zeros(100, 1, 2, 2)
    for step_sampling, everyone in (("stratified", True), ("uniform", False)):
        asked = []
        fit(Asked(), params(step_sampling=step_sampling, batch_size=50), data)
        assert len(asked) == 4
        assert (asked == 4 * [list(range(1, 51))]) == everyone


def test_dropout_comes_from_seed_and_step_and_not_from_the_global_state():
    class Dropping(Scale):
        def __init__(self):
            super().__init__(1.0)
            self.dropout = nn.Dropout(0.5)

        def forward(self, images, num_steps):
            dropped = self.dropout(torch.ones_like(images))
            masks.append(dropped.detach())
            return super().forward(images * dropped, num_steps)

    runs = []
    for start, seed in ((1, 5), (2, 5), (1, 6)):
        torch.manual_seed(start)
        masks = []
        fit(Dropping(), params(), torch.ones(16, 1, 2, 2), seed=seed)
        runs.append(torch.stack(masks))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert not torch.equal(runs[0][0], runs[0][1])  # each step has its own


def test_eight_bit_images_train_like_their_floats():
    x = torch.randint(0, 256, (24, *SHAPE), dtype=torch.uint8, generator=generator(0, "bytes"))
    losses = [fit(tiny(), params(), data, seed=1).train_loss for data in (x, x.float() / 255 * 2 - 1)]
    assert max(abs(a - b) for (_, a), (_, b) in zip(*losses, strict=True)) < 1e-6


def test_a_diverging_loss_names_step_rate_and_batch():
    message = r"diverged: the loss at step \d+ of 12, batch \d of 3 in epoch \d, is \S+, with lr 10 and 8 images; try"
    with pytest.raises(UserError, match=message):
        fit(Scale(), params(lr=10.0, epochs=4.0), torch.full((24, 1, 2, 2), 5e18))  # (w x)^2 overflows


def test_learning_rate_shapes():
    level = params()
    assert [lr_factor(k, 10, level) for k in (0, 5, 9)] == [1, 1, 1]
    shaped = params(warmup_steps=4, lr_decay="linear")
    expected = [0.25 * 1.0, 0.5 * 0.9, 0.75 * 0.8, 1.0 * 0.7, 0.6, 0.5]
    assert max(abs(lr_factor(k, 10, shaped) - e) for k, e in enumerate(expected)) < 1e-12
    assert lr_factor(10, 10, shaped) == 0


@pytest.mark.parametrize("w", [0.0, 0.7])
def test_held_out_losses_have_their_closed_form(w):
    # For x_0 = 0 the input is sqrt(1 - alpha_bar_t) eps, so the loss at t is (w sqrt(1 - alpha_bar_t) - 1)^2 E[eps^2].
    schedule = NoiseSchedule(30)
    zeros = torch.zeros(10, 1, 2, 2)
    losses = loss_by_timestep(Scale(w), zeros, schedule, per_step=4000, seed=0)
    expected = (w * (1 - schedule.alpha_bars).sqrt() - 1) ** 2
    # eps^2 has variance 2; 16,000 values a step; 4.5 standard errors.
    assert ((torch.tensor(losses) - expected).abs() <= 4.5 * expected * (2 / 16_000) ** 0.5 + 1e-6).all()
    mean = simple_loss(Scale(w), torch.zeros(9000, 1, 2, 2), schedule, seed=0)
    assert abs(mean - expected.mean()) < 4.5 * (2 / 36_000) ** 0.5


def test_the_loss_by_timestep_is_of_the_same_images_at_every_step():
    # Of a network that says x_0 = 0 the loss is the images' mean square, whatever t: 1, 4, 9, ... an image.
    images = torch.arange(1.0, 11).reshape(10, 1, 1, 1).expand(10, 1, 2, 2)
    model = Scale(0.0)
    model.prediction = "x0"
    assert loss_by_timestep(model, images, NoiseSchedule(7), per_step=3, seed=0) == pytest.approx(7 * [14 / 3])


def test_evaluation_leaves_the_mode_alone():
    model = Scale().train()
    simple_loss(model, torch.zeros(2, 1, 2, 2), NoiseSchedule(5), seed=0)
    assert model.training
