"""The bound against closed forms, and against the entropy of data of which it is known."""

from math import log, log2

import pytest
import torch

from ddpm.data.gradients import gradient_images
from ddpm.diffusion.objective import decoder_log_likelihood
from ddpm.diffusion.schedule import NoiseSchedule, rescaled_linear_schedule
from ddpm.evaluation.bound import variational_bound
from ddpm.images import to_uint8
from ddpm.models.base import DiffusionModel
from ddpm.models.exact import ExactDenoiser
from ddpm.seeding import generator

SHAPE = (3, 4, 5)


class Zero(DiffusionModel):
    """Always predicts that there is no noise."""

    def __init__(self, schedule):
        super().__init__()
        self.img_shape, self.noise_schedule = SHAPE, schedule

    def forward(self, images, num_steps):  # noqa: ARG002
        return torch.zeros_like(images)


def gradients_8bit(n):
    return to_uint8(gradient_images(n, SHAPE, generator(0, "gradients")))


def test_l_t_has_its_closed_form():
    schedule = NoiseSchedule(20)
    images = gradients_8bit(5)
    bound = variational_bound(Zero(schedule), images, "fixed_large", seed=0)
    kept = (1 - torch.linspace(1e-4, 0.02, 20, dtype=torch.float64)).prod()
    x0 = images.double() / 255 * 2 - 1
    nats = ((kept * x0**2 + (1 - kept) - 1 - (1 - kept).log()) / 2).flatten(1).mean(1)
    assert bound.terms.shape == (21, 5)
    assert (bound.terms[-1] - nats / log(2)).abs().max() < 1e-6  # images in float32


@pytest.mark.parametrize("variance", ["fixed_large", "fixed_small"])
def test_each_l_t_minus_1_is_the_weighted_loss_of_equation_12(variance):
    # For an error e of eps the means differ by beta e / sqrt(alpha (1 - alpha_bar)); here e is eps itself, of square 1.
    schedule = NoiseSchedule(10)
    bound = variational_bound(Zero(schedule), gradients_8bit(2000), variance, seed=0)
    betas = torch.linspace(1e-4, 0.02, 10, dtype=torch.float64)
    bars = (1 - betas).cumprod(0)
    true = betas[1:] * (1 - bars[:-1]) / (1 - bars[1:])
    sigma2 = betas[1:] if variance == "fixed_large" else true
    weight = betas[1:] ** 2 / (2 * sigma2 * (1 - betas[1:]) * (1 - bars[1:]))
    expected = (weight + (true / sigma2 - 1 - (true / sigma2).log()) / 2) / log(2)
    # eps^2 has variance 2: over 120,000 values its mean has a standard error of 0.4 %.
    assert (bound.terms[1:-1].mean(1) / expected - 1).abs().max() < 4.5 * 0.0041


@pytest.mark.parametrize("variance", ["fixed_large", "fixed_small"])
def test_the_bound_of_the_exact_denoiser_lies_above_the_entropy(variance):
    # The first and the last pixel of a channel are a and b, so rounding to 8 bits keeps all 255^2 gradients apart: the
    # entropy of the rounded images, which the discrete decoder codes, is 2 log2(255) bits a channel of 20 pixels. The
    # denoiser is exact for unrounded images; a bound holds for any model.
    entropy = 2 * log2(255) / 20
    model = ExactDenoiser(SHAPE, NoiseSchedule(100, betas=rescaled_linear_schedule(100)))
    bound = variational_bound(model, gradients_8bit(48), variance, seed=0)
    assert bound.bits_per_dim - bound.margin > entropy
    worse = variational_bound(Zero(model.noise_schedule), gradients_8bit(48), variance, seed=0)
    assert worse.bits_per_dim > bound.bits_per_dim


@pytest.mark.parametrize(("v", "fixed"), [(0.0, "fixed_small"), (1.0, "fixed_large")])
def test_learned_variance_meets_the_fixed_ones_at_its_ends(v, fixed):
    class Varied(Zero):
        def with_variance(self, images, num_steps):
            return self(images, num_steps), torch.full_like(images, v)

    model, images = Varied(NoiseSchedule(10)), gradients_8bit(20)
    learned, expected = (variational_bound(model, images, variance, seed=0).terms for variance in ("learned", fixed))
    assert (learned[1:] / expected[1:] - 1).abs().max() < 1e-9
    if v == 0:
        assert (learned[0] / expected[0] - 1).abs().max() < 1e-9
        return
    # At t = 1 its beta_1 is beta_1, where fixed_large takes beta_tilde_2. No noise is predicted, so the mean is
    # x_1 / sqrt(alpha_1).
    x0 = images.float() / 255 * 2 - 1
    noise = torch.randn(x0.shape, generator=generator(0, "bound", 1))
    mean = x0.double() + (1e-4 / (1 - 1e-4)) ** 0.5 * noise
    nats = -decoder_log_likelihood(x0, mean, 1e-4).flatten(1).mean(1)
    assert (learned[0] * log(2) / nats - 1).abs().max() < 1e-4  # x_1 is made in float32
    with pytest.raises(ValueError, match="this network has learned none"):
        variational_bound(Zero(model.noise_schedule), images, "learned", seed=0)


def test_the_interval_covers_the_bound_of_other_images():
    schedule = NoiseSchedule(10)
    bounds = [variational_bound(Zero(schedule), gradients_8bit(2000)[i::2], "fixed_small", seed=i) for i in (0, 1)]
    # Two independent means differ by less than 4.5 standard errors of their difference.
    joint = (bounds[0].margin ** 2 + bounds[1].margin ** 2) ** 0.5 / 1.96
    assert abs(bounds[0].bits_per_dim - bounds[1].bits_per_dim) < 4.5 * joint


def test_a_model_without_enough_steps_is_refused():
    for schedule in (None, NoiseSchedule(1)):
        with pytest.raises(ValueError, match="at least 2 steps"):
            variational_bound(Zero(schedule), gradients_8bit(2), "fixed_small", seed=0)
