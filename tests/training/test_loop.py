"""Algorithm 1: against hand-computed optimisation, its order of draws, and its errors."""

import math
from itertools import islice

import pytest
import torch
from torch import nn
from training.small import SHAPE, Scale, Watching, greys, images, params, tiny, train, weights

from ddpm.data.order import batches
from ddpm.diffusion.forward import noise_img
from ddpm.diffusion.loss import training_loss
from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.errors import UserError
from ddpm.run.compute import Compute
from ddpm.run.seeding import generator
from ddpm.training.loop import (
    Examples,
    ema_with_warmup,
    start_training,
    training_steps,
)
from ddpm.training.steps import total_steps


def adam_by_hand(w, data, own, seed, factors):
    """Losses, weights and EMA weights of `Scale` by Adam (Kingma & Ba 2015, algorithm 1), in plain numbers."""
    beta1, beta2 = own.adam_betas
    schedule, m, v, average = NoiseSchedule(own.max_steps), 0.0, 0.0, None
    order = islice(batches(len(data), own.batch_size, seed), len(factors))
    for step, (chosen, factor) in enumerate(zip(order, factors, strict=True), start=1):
        _, eps, xt = noise_img(data[chosen], schedule, generator=generator(seed, "noise", step))
        loss = ((w * xt - eps) ** 2).mean().item()
        grad = (2 * (w * xt - eps) * xt).mean().item()
        m, v = beta1 * m + (1 - beta1) * grad, beta2 * v + (1 - beta2) * grad**2
        w -= own.lr * factor * (m / (1 - beta1**step)) / (math.sqrt(v / (1 - beta2**step)) + 1e-8)
        n = step - 1  # earlier averages
        decay = min(own.ema_decay, (1 + n) / (10 + n))
        average = w if average is None else decay * average + (1 - decay) * w
        yield loss, w, average


@pytest.mark.parametrize("n_steps", [20, 300, 8000])
@pytest.mark.parametrize("decay", [0.9, 0.999, 0.9999])
def test_ema_lags_by_less_than_a_fifth_of_the_run(n_steps, decay):
    """For weights that grow by 1 per step, the EMA lags by less than a fifth of the run."""
    update, average = ema_with_warmup(decay), [torch.zeros(1, dtype=torch.float64)]
    for n in range(1, n_steps + 1):
        update(average, [torch.full((1,), float(n), dtype=torch.float64)], n)
    assert 0 < n_steps - average[0].item() < min(n_steps / 5, 1 / (1 - decay))


@pytest.mark.parametrize("ema_decay", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("adam_betas", [[0.9, 0.999], [0.5, 0.8]])
@pytest.mark.parametrize(
    ("shape", "factors"),
    [
        ({}, [1, 1, 1, 1, 1, 1]),
        ({"lr_decay": "linear"}, [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        ({"lr_decay": "linear", "warmup_steps": 3}, [1 / 3, 2 / 3 * 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
    ],
    ids=["constant", "decay", "warm-up and decay"],
)
def test_training_is_adam_on_equation_14(ema_decay, adam_betas, shape, factors):
    data = images(20, shape=(1, 2, 2))
    own = params(ema_decay=ema_decay, adam_betas=adam_betas, **shape)
    model = Scale(0.3)
    state = start_training(model, own, Compute())
    by_hand = adam_by_hand(0.3, data, own, 5, factors)
    for step, factor, (loss, w, average) in zip(
        training_steps(state, own, Examples(data), 5), factors, by_hand, strict=True
    ):
        assert (step.lr, step.loss) == pytest.approx((0.01 * factor, loss), rel=1e-5)  # float32
        assert model.w.item() == pytest.approx(w, abs=1e-6)
        assert state.modules["average"].module.w.item() == pytest.approx(average, abs=1e-6)
    assert (step.number, step.total, step.last) == (6, 6, True)


@pytest.mark.parametrize("most", [None, 1e6, 1e-2])
def test_gradients_are_clipped_by_global_norm(most, monkeypatch):
    """By their global norm, as in Pascanu et al. 2013, algorithm 1."""
    norms = {True: [], False: []}
    for clipped in (False, True):
        monkeypatch.setattr(
            torch.optim.Adam,
            "step",
            lambda self, clipped=clipped: norms[clipped].append(
                torch.cat([p.grad.flatten() for group in self.param_groups for p in group["params"]])
            ),
        )
        train(tiny(), params(max_grad_norm=most if clipped else None), images(20))
    for before, after in zip(norms[False], norms[True], strict=True):
        factor = min(1.0, (most or math.inf) / before.norm().item())
        assert torch.allclose(after, before * factor, rtol=1e-4, atol=0)
    assert (most == 1e-2) == (not torch.equal(norms[False][0], norms[True][0]))


@pytest.mark.parametrize(("n_images", "epochs", "expected"), [(20, 2.0, 6), (24, 2.0, 6), (20, 0.4, 1), (20, 0.01, 1)])
def test_total_steps_is_rounded_and_at_least_one(n_images, epochs, expected):
    assert total_steps(n_images, params(epochs=epochs)) == expected
    steps, _ = train(Scale(), params(epochs=epochs), images(n_images, shape=(1, 2, 2)))
    assert [step.number for step in steps] == list(range(1, expected + 1))
    assert [step.last for step in steps] == [False] * (expected - 1) + [True]


def test_each_step_uses_its_own_images_timesteps_and_noise():
    data = images(20, shape=(1, 2, 2))
    model = Watching()
    train(model, params(schedule="cosine"), data, seed=5)
    schedule = NoiseSchedule(50, betas=SCHEDULES["cosine"](50))
    for step, (chosen, (xt, num_steps)) in enumerate(zip(batches(20, 8, 5), model.seen, strict=False), start=1):
        t, _, expected = noise_img(data[chosen], schedule, generator=generator(5, "noise", step))
        assert torch.equal(num_steps, t)
        assert torch.equal(xt, expected)
    assert len(model.seen) == 6


def test_each_epoch_visits_every_image_once_in_shuffled_order():
    # With T = 1 of the linear schedule the noise has a standard deviation of 0.01, and the greys lie 0.08 apart.
    model = Watching()
    train(model, params(max_steps=1), greys(20) * 10)
    orders = torch.cat([xt.mean((1, 2, 3)) for xt, _ in model.seen]).add(1).mul(255 / 2 / 10).round().long()
    first, second = orders.split(20)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(20))
    assert first.tolist() != list(range(20))
    assert first.tolist() != second.tolist()


class Told(Watching):
    """Takes a `cond`, and records it."""

    def with_variance(self, images, num_steps, cond):
        self.told = [*getattr(self, "told", []), cond]
        return self(images, num_steps), None


def test_conditioning_stays_aligned_with_images():
    model = Told()
    train(model, params(max_steps=1), greys(20) * 10, cond=torch.arange(20))
    for (xt, _), cond in zip(model.seen, model.told, strict=True):
        assert torch.equal(xt.mean((1, 2, 3)).add(1).mul(255 / 2 / 10).round().long(), cond)


@pytest.mark.parametrize("step_sampling", ["uniform", "stratified"])
@pytest.mark.parametrize("weighting", ["simple", "x0", "min_snr", "bound"])
@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "mean"])
def test_loss_matches_weighting_prediction_and_step_sampling(prediction, weighting, step_sampling):
    own = params(prediction=prediction, weighting=weighting, step_sampling=step_sampling, lr=1e-9, batch_size=16)
    data = (images(16, shape=(1, 2, 2)) * 127).round() / 127.5
    steps, _ = train(Scale(0.7), own, data, seed=3)
    schedule = NoiseSchedule(50)
    for step, chosen in zip(steps, batches(16, 16, 3), strict=False):
        stream = generator(3, "noise", step.number)
        t, eps, xt = noise_img(data[chosen], schedule, generator=stream, step_sampling=step_sampling)
        expected = training_loss(weighting, prediction, 0.7 * xt, None, data[chosen], eps, xt, t, schedule).mean()
        assert step.loss == pytest.approx(expected.item(), rel=1e-5)  # float32


def test_stratified_sampling_draws_every_timestep_once_per_batch():
    for step_sampling, all_once in (("stratified", True), ("uniform", False)):
        model = Watching()
        train(model, params(step_sampling=step_sampling, batch_size=50), torch.zeros(100, 1, 2, 2))
        drawn = [sorted(num_steps.tolist()) for _, num_steps in model.seen]
        assert len(drawn) == 4
        assert (drawn == 4 * [list(range(1, 51))]) == all_once


class Sure(DiffusionModel):
    """Predicts x_0 = 0 for every image, and a trainable variance for each t."""

    def __init__(self, max_steps):
        super().__init__()
        self.img_shape = (1, 2, 2)
        self.v = nn.Parameter(torch.zeros(max_steps))

    def forward(self, images, num_steps):  # noqa: ARG002
        return 0 * images

    def with_variance(self, images, num_steps):
        return self(images, num_steps), self.v[num_steps - 1].reshape(-1, 1, 1, 1).expand_as(images)


@pytest.mark.parametrize("weighting", ["simple", "bound"])
def test_training_finds_the_optimal_variance(weighting):
    # Every pixel is -1 or 1, so the estimate 0 is off by 1 at every t, and the best variance from t = 2 on is
    # beta_tilde + (the factor of x_0 in equation 7)^2, whatever the noise.
    data = torch.randint(2, (16, 1, 2, 2), generator=generator(0, "coins")).float() * 2 - 1
    shape = {"schedule": "cosine", "prediction": "x0", "lr_decay": "linear", "step_sampling": "stratified"}
    model = Sure(4)
    train(model, params(weighting=weighting, max_steps=4, lr=0.2, batch_size=16, epochs=150.0, **shape), data)
    betas = model.noise_schedule.betas
    bars = torch.cat((torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0)))
    beta, before, after = betas[1:], bars[1:-1], bars[2:]
    small, x0_weight = beta * (1 - before) / (1 - after), before.sqrt() * beta / (1 - after)
    best = ((small + x0_weight**2) / small).log() / (beta / small).log()
    assert (model.v.detach()[1:] / best - 1).abs().max() < 0.01  # 150 steps of Adam with a decaying lr


def test_mean_prediction_rejects_bf16():
    with pytest.raises(UserError, match="prediction is mean, which bf16 is too coarse for; precision must be fp32"):
        start_training(Scale(), params(prediction="mean"), Compute(precision="bf16"))


def test_start_training_sets_schedule_and_prediction():
    model = Scale().eval()
    state = start_training(model, params(max_steps=30, schedule="cosine", prediction="v"), Compute())
    for network in (model, state.modules["average"].module):
        assert torch.equal(network.noise_schedule.betas, SCHEDULES["cosine"](30))
        assert network.prediction == "v"
    assert model.training


def test_weights_depend_on_the_seed():
    trained = []
    for seed in (1, 1, 2):
        model = tiny()
        train(model, params(), images(40), seed)
        trained.append(weights(model))
    assert torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[0], trained[2])


def test_dropout_depends_on_seed_and_step_not_on_global_rng():
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
        train(Dropping(), params(), torch.ones(16, 1, 2, 2), seed)
        runs.append(torch.stack(masks))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert not torch.equal(runs[0][0], runs[0][1])  # each step has its own
    masks = []
    train(Dropping(), params(batch_size=8, micro_batches=2), torch.ones(16, 1, 2, 2), 5)
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == len(masks)  # and each micro-batch


def test_uint8_images_train_like_floats():
    x = torch.randint(0, 256, (24, *SHAPE), dtype=torch.uint8, generator=generator(0, "bytes"))
    losses = [[step.loss for step in train(tiny(), params(), data, 1)[0]] for data in (x, x.float() / 255 * 2 - 1)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_divergence_reports_step_lr_and_batch_and_keeps_state():
    # The first step takes w to 2.5. The second, at half the lr, has the 4 images that are left of the epoch.
    message = r"diverged: the loss at step 2 of 8, batch 2 of 2 in epoch 1, is \S+, with lr 5 and 4 images; try"
    own = params(lr=10.0, epochs=4.0, warmup_steps=4)
    state = start_training(Scale(), own, Compute())
    with pytest.raises(UserError, match=message):
        list(training_steps(state, own, Examples(torch.full((12, 1, 2, 2), 5e18))))  # (w x)^2 is 10^38
    assert state.step == 1
    assert state.modules["model"].w.isfinite()


def test_non_finite_final_weights_raise():
    own = params(epochs=1.0, batch_size=24)
    state = start_training(Scale(), own, Compute())
    steps = training_steps(state, own, Examples(images(24, shape=(1, 2, 2))))
    assert next(steps).last
    state.modules["model"].w.data.fill_(torch.nan)
    with pytest.raises(UserError, match=r"diverged: the weights after step 1, the last, are not finite, with lr 0.01"):
        next(steps)
