"""A training run: what is recorded, evaluated, previewed and kept, and when."""

import pytest
import torch
from training.small import SHAPE, Recorder, Scale, greys, images, params, tiny, weights

from ddpm.data.dataset import to_x0_range
from ddpm.data.order import batches
from ddpm.diffusion.forward import noise_img
from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.images import to_uint8
from ddpm.run.compute import Compute
from ddpm.run.resume.context import Resume
from ddpm.run.seeding import generator
from ddpm.training.evaluate import simple_loss
from ddpm.training.fit import fit, preview
from ddpm.training.loop import Examples, start_training, training_steps


def data(n=20, name="data"):
    return Examples(images(n, name, (1, 2, 2)))


def steps_by_hand(own, seed=5):
    """(step, model, EMA model) after each step of the bare loop, without recording."""
    state = start_training(Scale(), own, Compute())
    for step in training_steps(state, own, data(), seed):
        yield step, state.modules["model"], state.modules["average"].module


def test_training_loss_is_mean_since_previous_row():
    own = params(log_interval=4)
    losses = [step.loss for step, *_ in steps_by_hand(own)]
    history = fit(Scale(), own, data(), seed=5)
    assert history.steps == 6
    assert [step for step, _ in history.train_loss] == [4, 6]
    means = [sum(losses[:4]) / 4, sum(losses[4:]) / 2]
    assert [loss for _, loss in history.train_loss] == pytest.approx(means, rel=1e-12)


def test_quartile_loss_groups_losses_by_timestep():
    history = fit(Scale(), params(log_interval=3, lr=1e-9), data(), seed=5)
    schedule, quartiles = NoiseSchedule(50), (range(1, 14), range(14, 26), range(26, 39), range(39, 51))
    drawn, expected = [], []
    for step, chosen in zip(range(1, 7), batches(20, 8, 5), strict=False):
        num_steps, eps, _ = noise_img(data().images[chosen], schedule, generator=generator(5, "noise", step))
        drawn += zip(num_steps.tolist(), eps.square().mean((1, 2, 3)).tolist(), strict=True)  # w stays 0
        if step % 3 == 0:
            found = [[loss for t, loss in drawn if t in quartile] for quartile in quartiles]
            expected.append([sum(losses) / len(losses) if losses else None for losses in found])
            drawn = []
    assert [step for step, _ in history.quartile_loss] == [3, 6]
    for (_, losses), by_hand in zip(history.quartile_loss, expected, strict=True):
        assert losses == pytest.approx(by_hand, rel=1e-5)  # float32


@pytest.mark.parametrize(("warmup_steps", "said"), [(6, 0), (7, 1)])
def test_training_shorter_than_warmup_logs_a_warning(warmup_steps, said, caplog):
    fit(Scale(), params(warmup_steps=warmup_steps), data(), seed=5)  # 20 images in batches of 8, twice: 6 steps
    lines = [line for line in caplog.messages if line.startswith("training takes 6 steps, fewer than warmup_steps, 7")]
    assert len(lines) == said == len(caplog.messages)


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_ema_weights_are_evaluated_and_kept(ema_decay):
    own, held_out = params(ema_decay=ema_decay, img_log_interval=4, lr=0.1), data(9, "held out")
    model = Scale()
    history = fit(model, own, data(), held_out, seed=5)
    expected = []
    for step, raw, average in steps_by_hand(own):
        if step.number in (4, 6):
            expected.append((step.number, simple_loss(average, held_out, 5)))
            # The losses differ by over 0.1 %, else this test could not tell the models apart.
            assert (abs(expected[-1][1] / simple_loss(raw, held_out, 5) - 1) > 1e-3) == bool(ema_decay)
    assert dict(history.eval_loss) == pytest.approx(dict(expected), rel=1e-6)
    assert [step for step, _ in history.eval_loss] == [4, 6]
    assert model.w == average.w
    assert history.preview_steps == [4, 6]


def test_fit_without_held_out_images_evaluates_nothing():
    history = fit(Scale(), params(), data())
    assert history.eval_loss == []
    assert history.preview_steps == []
    assert len(history.previews) == 0


def test_training_and_evaluation_use_their_own_split():
    class Seeing(Scale):
        def forward(self, images, num_steps):
            found = images.mean((1, 2, 3)).add(1).mul(255 / 2 / 10).round()  # noise of 0.01, greys 0.08 apart
            seen[self.training] |= set(found.long().tolist())
            return super().forward(images, num_steps)

    seen = {True: set(), False: set()}
    train, held_out = greys(20) * 10, to_x0_range(greys(4, 21) * 10)
    fit(Seeing(), params(max_steps=1, img_log_interval=3), Examples(train), Examples(held_out))
    assert seen == {True: set(range(20)), False: set(range(21, 25))}


class Echo(DiffusionModel):
    """Predicts its cond, a grey from 0 to 1, as x_0."""

    def __init__(self):
        super().__init__()
        self.img_shape = (1, 2, 2)
        self.w = torch.nn.Parameter(torch.zeros(()))

    def forward(self, images, num_steps, cond):  # noqa: ARG002
        return (2 * cond - 1).reshape(-1, 1, 1, 1).expand_as(images) + 0 * self.w


def test_previews_show_first_held_out_images_with_their_cond():
    held_out = Examples(to_x0_range(greys(7, 100)), 20 * torch.arange(7) / 255)
    train = Examples(images(8, shape=(1, 2, 2)), torch.full((8,), 0.5))
    own = params(prediction="x0", n_images_to_log=3, img_log_interval=1, epochs=3.0)
    history = fit(Echo(), own, train, held_out, seed=5)
    assert history.previews.shape == (3, 3, 1, 4, 6)  # (steps, images, channels, 2 height, 3 width)
    assert history.preview_steps == [1, 2, 3]
    for shown in history.previews:
        for i, picture in enumerate(shown):
            assert (picture[:, :2, 4:] == 100 + i).all()  # the image
            assert (picture[:, 2:, 4:] == 20 * i).all()  # its reconstruction
    assert torch.equal(history.previews[0], history.previews[2])  # the same timesteps and noise


def test_preview_shows_inputs_and_predictions():
    model, x0 = Scale(0.5), images(3, shape=(1, 2, 2))
    model.noise_schedule = NoiseSchedule(50)
    t, noise, noised = noise_img(x0, model.noise_schedule, generator=generator(5, "preview"))
    alpha_bar = model.noise_schedule.alpha_bar(t).reshape(-1, 1, 1, 1).float()
    x0_estimate = (noised - (1 - alpha_bar).sqrt() * 0.5 * noised) / alpha_bar.sqrt()
    upper, lower = torch.cat((noised, noise, x0), -1), torch.cat((noised, 0.5 * noised, x0_estimate), -1)
    expected = ((torch.cat((upper, lower), -2) + 1) / 2).clamp(0, 1)
    torch.manual_seed(1)
    assert (preview(model, x0, 5) - expected).abs().max() < 1e-5  # float32


def test_global_rng_and_logging_do_not_change_weights():
    results = []
    for log in (None, Recorder()):
        torch.manual_seed(123 if log else 7)
        model = tiny()
        fit(model, params(img_log_interval=4), Examples(images(40)), Examples(images(8, "eval")), log=log)
        results.append(weights(model))
    assert torch.equal(*results)


def test_history_is_logged():
    log, own = Recorder(), params(img_log_interval=4, log_interval=3, lr_decay="linear")
    history = fit(tiny(), own, Examples(images(40)), Examples(images(8, "eval")), log=log)

    def logged(name):
        return [(step, metrics[name]) for step, metrics in log.metrics if name in metrics]

    assert [step for step, _ in history.train_loss] == [3, 6, 9, 10]
    assert logged("train/loss") == history.train_loss
    assert logged("eval/loss") == history.eval_loss
    assert dict(logged("train/lr")) == pytest.approx({step: 0.01 * (1 - (step - 1) / 10) for step in (3, 6, 9, 10)})
    for quartile in range(4):
        expected = [(step, losses[quartile]) for step, losses in history.quartile_loss if losses[quartile] is not None]
        assert logged(f"train/loss_q{quartile + 1}") == expected
    assert [(step, key) for step, key, _ in log.images] == [(step, "reconstructions") for step in (4, 8, 10)]
    for (*_, image), previews in zip(log.images, history.previews, strict=True):
        assert image.shape == (3, 3 * 8, 15)  # stacked vertically
        assert torch.equal(to_uint8(image), torch.cat(list(previews), dim=-2))


def test_resumed_run_logs_its_earlier_curves_too(tmp_path):
    class Killed(Resume):
        def after_step(self, state, last=False):
            super().after_step(state, last)
            if state.step == 4:
                raise KeyboardInterrupt

    def run(**options):
        log = Recorder()
        fit(Scale(), params(log_interval=2, img_log_interval=2), data(), data(9, "held out"), 5, log=log, **options)
        return {(step, *row) for step, found in log.metrics for row in found.items() if row[0] != "train/lr"}

    with pytest.raises(KeyboardInterrupt), Killed("stage", {}, 0.0, tmp_path) as resume:
        run(resume=resume)
    with Resume("stage", {}, 0.0, tmp_path) as resume:
        assert run(resume=resume) == run()


def test_model_learns_to_predict_noise():
    # For a constant image c the noise is known: eps = (x_t - sqrt(alpha_bar) c) / sqrt(1 - alpha_bar) exactly. The
    # error of predicting no noise is 1, and this run reaches about 0.17.
    constant = torch.full((256, *SHAPE), 0.5)
    model = tiny()
    own = params(batch_size=32, epochs=20.0, schedule="rescaled_linear")
    history = fit(model, own, Examples(constant), Examples(constant[:64]))
    assert history.eval_loss[-1][1] < 0.5
