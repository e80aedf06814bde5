"""The losses of a model against those of the exact denoiser: metrics by definition, error bars by many draws."""

from operator import mul
from statistics import fmean, pvariance

import pytest
import torch
from analytic import Told

from ddpm.data.dataset import ImageDataset
from ddpm.data.gradients import gradient_images
from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.posterior import eps_error, to_eps
from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.exact.comparison import Comparison, compare, quality_metrics
from ddpm.exact.denoiser import ExactDenoiser
from ddpm.exact.quality import corner_error_floor, measure
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.run.seeding import generator, global_stream
from ddpm.training.evaluate import loss_by_timestep, simple_loss
from ddpm.training.loop import Examples

T = 20


class Noise(DiffusionModel):
    """Another model's predictions, converted to noise."""

    def __init__(self, model):
        super().__init__()
        self.model, self.img_shape, self.noise_schedule = model, model.img_shape, model.noise_schedule

    def forward(self, images, num_steps):
        said = self.model(images, num_steps)
        return to_eps(self.model.prediction, said, images, num_steps, self.noise_schedule)


class Zero(DiffusionModel):
    """Predicts no noise, so that its loss is the mean square of the noise."""

    def __init__(self, schedule):
        super().__init__()
        self.img_shape, self.noise_schedule = (1, 1, 2), schedule

    def forward(self, images, _):
        return torch.zeros_like(images)


def held_out(n, shape=(3, 4, 5)):
    return ImageDataset(gradient_images(n, shape, generator(0, "images")))


def examples(n, shape=(3, 4, 5)):
    return Examples(held_out(n, shape).x0)


def network(prediction):
    with global_stream(0, "init"):
        model = TinyDiffuser(TinyDiffuserConfig((3, 4, 5), 8, T))
    model.noise_schedule, model.prediction = NoiseSchedule(T, betas=cosine_schedule(T)), prediction
    return model


def test_conditional_model_is_told_of_its_own_images():
    model = Told((3, 4, 5), NoiseSchedule(T, betas=cosine_schedule(T)))
    found = compare(model, held_out(6), n_images=4, seed=3)
    assert (max(found.losses), found.eval_loss) == (0, 0)
    assert min(found.optimal) > 0


def comparison(losses, optimal, eps_errors=None):
    return Comparison(losses, optimal, 0.0, 0.0, eps_errors or [1.0] * len(losses)).metrics


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_eps_error_converts_loss_to_noise_loss(prediction):
    model, images = network(prediction), examples(50)
    schedule = model.noise_schedule
    own, of_noise = (loss_by_timestep(which, images, 50, 0) for which in (model, Noise(model)))
    weights = eps_error(prediction, torch.arange(1, T + 1), schedule).flatten().tolist()
    weighted = torch.tensor([weight * loss for weight, loss in zip(weights, own, strict=True)])
    assert (weighted / torch.tensor(of_noise) - 1).abs().max() < 1e-3  # float32 near t = 1, where the weight is 1,000
    shares = [t / T for t in range(1, T + 1)]  # of the loss that is unavoidable
    found = comparison(own, list(map(mul, shares, own)), weights)
    excess = sum(of_noise) / sum(map(mul, shares, of_noise)) - 1
    assert found["excess_noise_loss_relative"] == pytest.approx(excess, rel=1e-3)
    assert found["noise_loss"] == pytest.approx(sum(of_noise) / T, rel=1e-3)
    assert compare(model, held_out(5), 5, 0).eps_errors == weights


def test_metrics_match_their_definitions():
    found = comparison([5.0, 4.0, 9.0], [1.0, 2.0, 3.0], [1.0, 0.5, 0.0])
    assert (found["loss"], found["optimal_loss"], found["excess_loss"]) == pytest.approx((6, 2, 4))
    assert found["excess_loss_relative"] == pytest.approx(2)
    assert (found["noise_loss"], found["optimal_noise_loss"]) == pytest.approx((7 / 3, 2 / 3))
    assert found["excess_noise_loss_relative"] == pytest.approx(2.5)
    # Excesses 4, 2, 6: half the mean squared difference is (4 + 16) / 4 = 5.
    assert found["excess_loss_standard_error"] == pytest.approx((5 / 3) ** 0.5)
    assert comparison([5.0], [1.0])["excess_loss_standard_error"] == 0


def test_standard_error_matches_spread_over_many_draws():
    """A trend over t does not count but independent noise does, as the spread of many draws shows."""
    stream, n_draws, n = generator(0, "noise"), 4000, 50
    trend = torch.linspace(1, 0, n)  # its own differences add (1 / 49)^2 / 2 to a variance of 0.04: 0.5 %
    losses = trend + 0.2 * torch.randn(n_draws, n, generator=stream)
    found = [comparison(row.tolist(), [1.0] * n) for row in losses]
    spread = pvariance([metrics["excess_loss"] for metrics in found])
    said = fmean(metrics["excess_loss_standard_error"] ** 2 for metrics in found)
    # A variance of 4,000 normal draws has a standard error of sqrt(2 / 4000) = 2.2 %, the mean estimate far less.
    assert abs(said / spread - 1) < 0.005 + 4.5 * 0.022


def test_each_timestep_has_its_own_noise():
    losses = torch.tensor(loss_by_timestep(Zero(NoiseSchedule(200)), examples(1, (1, 1, 2)), 50, 0))
    # Means of 100 squared normal numbers: standard deviation sqrt(2 / 100). Over 200 of them, it has an error of 5 %,
    # and neighbours have a correlation of 0 with a standard error of 1 / sqrt(199).
    assert abs(losses.std() / 0.02**0.5 - 1) < 4.5 * 0.05
    assert abs(torch.corrcoef(torch.stack((losses[1:], losses[:-1])))[0, 1]) < 4.5 / 199**0.5


def test_compare_uses_same_images_and_noise_for_both():
    model, images = network("x0"), examples(60)
    exact = ExactDenoiser(model.img_shape, model.noise_schedule, "x0")
    found = compare(model, held_out(60), 40, 3)
    assert found.losses == loss_by_timestep(model, images, 40, 3)
    assert found.optimal == loss_by_timestep(exact, images, 40, 3)
    assert (found.eval_loss, found.optimal_eval_loss) == (simple_loss(model, images, 3), simple_loss(exact, images, 3))
    assert found.losses != compare(model, held_out(60), 40, 4).losses
    assert min(loss - least for loss, least in zip(found.losses, found.optimal, strict=True)) > 0


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "mean"])
def test_exact_denoiser_has_no_excess_loss(prediction):
    exact = ExactDenoiser((3, 4, 5), NoiseSchedule(T), prediction)
    found = compare(exact, held_out(20), 20, 3)
    assert found.losses == found.optimal
    assert found.metrics["excess_loss"] == found.metrics["excess_noise_loss_relative"] == 0
    assert found.eval_loss == found.optimal_eval_loss


def test_quality_metrics_cover_each_model_and_its_floor():
    good = held_out(60).x0
    bad = good[:50].clamp(max=0.2)
    metrics = quality_metrics({"good": good, "bad": bad}, 0.01, 5)
    for name, images in (("good", good), ("bad", bad)):
        assert {key: metrics[f"{name}_{key}"] for key in vars(measure(images))} == vars(measure(images))
        assert metrics[f"{name}_samples_floor"] == corner_error_floor(3 * len(images), generator(5, "floor"))
    # p-values of some 0.5 and below 1e-50: at any level, good colours pass and bad ones do not.
    assert (metrics["good_corners_uniform"], metrics["bad_corners_uniform"]) == (True, False)
    level = metrics["good_p_value"]
    assert quality_metrics({"good": good}, level, 5)["good_corners_uniform"]
    assert not quality_metrics({"good": good}, (1 + level) / 2, 5)["good_corners_uniform"]
