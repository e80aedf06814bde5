"""The bound against closed forms, and against the known entropy of the data."""

from math import log

import pytest
import torch

from ddpm.data.gradients import gradient_images
from ddpm.diffusion.bound import decoder_log_likelihood, gaussian_kl
from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.schedule import NoiseSchedule, linear_schedule, rescaled_linear_schedule
from ddpm.evaluation.bound import Bound, VariationalBound
from ddpm.exact.denoiser import ExactDenoiser
from ddpm.exact.quality import entropy
from ddpm.images import to_uint8
from ddpm.run.seeding import generator

SHAPE = (3, 4, 5)


class Zero(DiffusionModel):
    """Always predicts zero noise."""

    def __init__(self, schedule):
        super().__init__()
        self.img_shape, self.noise_schedule = SHAPE, schedule

    def forward(self, images, num_steps):  # noqa: ARG002
        return torch.zeros_like(images)


def gradients_8bit(n):
    return to_uint8(gradient_images(n, SHAPE, generator(0, "gradients")))


def bound_of(model, images, variance="fixed_small", seed=0, **options):
    return VariationalBound(model, images, [variance], seed, **options).run()[variance]


def test_l_t_matches_closed_form():
    schedule = NoiseSchedule(20)
    images = gradients_8bit(5)
    bound = bound_of(Zero(schedule), images, "fixed_large")
    kept = (1 - torch.linspace(1e-4, 0.02, 20, dtype=torch.float64)).prod()
    x0 = images.double() / 255 * 2 - 1
    nats = ((kept * x0**2 + (1 - kept) - 1 - (1 - kept).log()) / 2).flatten(1).mean(1)
    assert bound.terms.shape == (21, 5)
    assert (bound.terms[-1] - nats / log(2)).abs().max() < 1e-6  # images in float32


@pytest.mark.parametrize("variance", ["fixed_large", "fixed_small"])
def test_l_t_minus_1_matches_weighted_loss_of_equation_12(variance):
    # For an error e of eps, the means differ by beta e / sqrt(alpha (1 - alpha_bar)). Here e is eps, of mean square 1.
    schedule = NoiseSchedule(10)
    bound = bound_of(Zero(schedule), gradients_8bit(2000), variance)
    betas = torch.linspace(1e-4, 0.02, 10, dtype=torch.float64)
    bars = (1 - betas).cumprod(0)
    true = betas[1:] * (1 - bars[:-1]) / (1 - bars[1:])
    sigma2 = betas[1:] if variance == "fixed_large" else true
    weight = betas[1:] ** 2 / (2 * sigma2 * (1 - betas[1:]) * (1 - bars[1:]))
    expected = (weight + (true / sigma2 - 1 - (true / sigma2).log()) / 2) / log(2)
    # eps^2 has variance 2: over 120,000 values its mean has a standard error of 0.4 %.
    assert (bound.terms[1:-1].mean(1) / expected - 1).abs().max() < 4.5 * 0.0041


def test_bound_of_exact_denoiser_exceeds_entropy():
    # The discrete decoder codes rounded images. The denoiser is exact for unrounded ones, but any model gives a bound.
    least = entropy(4, 5)
    schedule = NoiseSchedule(100, betas=rescaled_linear_schedule(100))
    variances = "fixed_large", "fixed_small"
    exact, worse = (
        VariationalBound(model, gradients_8bit(48), variances, seed=0).run()
        for model in (ExactDenoiser(SHAPE, schedule), Zero(schedule))
    )
    for variance in variances:
        assert exact[variance].bits_per_dim - exact[variance].margin > least
        assert worse[variance].bits_per_dim > exact[variance].bits_per_dim


@pytest.mark.parametrize(("v", "fixed"), [(0.0, "fixed_small"), (1.0, "fixed_large")])
def test_learned_variance_matches_fixed_ones_at_its_ends(v, fixed):
    class Varied(Zero):
        def with_variance(self, images, num_steps):
            return self(images, num_steps), torch.full_like(images, v)

    model, images = Varied(NoiseSchedule(10)), gradients_8bit(20)
    learned, expected = (
        bound.terms for bound in VariationalBound(model, images, ["learned", fixed], seed=0).run().values()
    )
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
    with pytest.raises(ValueError, match="this network was not trained to predict it"):
        bound_of(Zero(model.noise_schedule), images, "learned")


def test_bounds_of_two_image_sets_agree_within_margins():
    schedule = NoiseSchedule(10)
    bounds = [bound_of(Zero(schedule), gradients_8bit(2000)[i::2], seed=i) for i in (0, 1)]
    # Two independent means differ by less than 4.5 standard errors of their difference.
    joint = (bounds[0].margin ** 2 + bounds[1].margin ** 2) ** 0.5 / 1.96
    assert abs(bounds[0].bits_per_dim - bounds[1].bits_per_dim) < 4.5 * joint


class Shrunk(DiffusionModel):
    """E[x0 | x_t] for pixels from N(0, 1 / 4), up to their rounding to 8 bits."""

    def __init__(self, schedule):
        super().__init__()
        self.img_shape, self.noise_schedule, self.prediction = SHAPE, schedule, "x0"

    def forward(self, images, num_steps):
        alpha_bar = self.noise_schedule.alpha_bar(num_steps).reshape(-1, 1, 1, 1)
        return alpha_bar.sqrt() / 4 / (alpha_bar / 4 + 1 - alpha_bar) * images


def normal_8bit(n):
    """Images of pixels from N(0, 1 / 4), of which 5 % are clipped."""
    return to_uint8((torch.randn(n, *SHAPE, generator=generator(0, "normal")) / 2 + 1) / 2)


@pytest.mark.parametrize("stride", [1, 3])
def test_distortion_matches_closed_form(stride):
    schedule = NoiseSchedule(10, betas=torch.linspace(0.05, 0.5, 10, dtype=torch.float64))
    images = normal_8bit(1500)
    bound = bound_of(Shrunk(schedule), images, stride=stride)
    # For the estimate a x_t of x0, and pixels of mean square m, the mean square error is
    # (1 - a sqrt(alpha_bar))^2 m + a^2 (1 - alpha_bar), which is the posterior's variance where m is 1 / 4.
    m = (images.double() / 127.5 - 1).square().mean()
    kept = schedule.alpha_bars
    gain = kept.sqrt() / 4 / (kept / 4 + 1 - kept)
    expected = ((1 - gain * kept.sqrt()) ** 2 * m + gain**2 * (1 - kept)).sqrt() * 127.5
    # A square of a normal error has a relative variance of 2: over 500 images of 60 pixels its mean has a standard
    # error of 0.8 %, and the root half of that. A third of the images has a mean square that is itself 0.8 % off.
    assert (bound.distortion / expected - 1).abs().max() < 4.5 * 0.008


def test_rate_decreases_with_t_from_bound_to_l_t():
    schedule = NoiseSchedule(20)
    bounds = VariationalBound(Zero(schedule), gradients_8bit(12), ["fixed_small", "fixed_large"], seed=0).run()
    for variance, bound in bounds.items():
        assert len(bound.rate) == 21
        assert (bound.rate.diff() <= 0).all()  # by t, as no term is below 0
        assert bound.rate[0].item() == pytest.approx(bound.bits_per_dim, rel=1e-12)
        assert bound.rate[-1].item() == pytest.approx(bound.parts["L_T"], rel=1e-12)
        assert sum(bound.parts.values()) == pytest.approx(bound.bits_per_dim, rel=1e-12)
        alone = bound_of(Zero(schedule), gradients_8bit(12), variance)
        assert torch.equal(alone.terms, bound.terms)  # the variances do not affect each other


def test_stride_evaluates_each_image_at_its_own_steps():
    bound = bound_of(Zero(NoiseSchedule(9)), gradients_8bit(8), stride=4)
    taken = bound.terms.isfinite()
    assert taken[[0, 9]].all()  # L_0 and L_T of every image
    for t in range(2, 10):
        assert taken[t - 1].nonzero().flatten().tolist() == [i for i in range(8) if i % 4 == t % 4]
    assert torch.equal(taken[:9], bound.squared_errors.isfinite())


def test_stride_gives_unbiased_bound_with_covering_interval():
    # 20 sets of images, each with its own noise. A large set gives the truth, which 95 % of the intervals should cover.
    model = Zero(NoiseSchedule(6))
    images = gradients_8bit(20 * 24).split(24)
    truth = bound_of(model, gradients_8bit(4000), seed=99).bits_per_dim
    bounds = [bound_of(model, part, seed=i, stride=4) for i, part in enumerate(images)]
    # A hit or miss at 95 % has a standard deviation of 22 %, and the spread of 20 values one of 16 %.
    spread = torch.tensor([bound.bits_per_dim for bound in bounds])
    assert abs(spread.mean().item() - truth) < 4.5 * spread.std().item() / 20**0.5
    assert sum(abs(bound.bits_per_dim - truth) < bound.margin for bound in bounds) >= 20 * (0.95 - 4 * 0.22 / 20**0.5)
    assert spread.std().item() / (sum(bound.margin for bound in bounds) / 20 / 1.96) == pytest.approx(1, abs=4 * 0.16)


def test_too_few_images_for_stride_raise():
    with pytest.raises(ValueError, match="7 images are too few for stride 4; need at least 8"):
        bound_of(Zero(NoiseSchedule(10)), gradients_8bit(7), stride=4)


def test_model_with_fewer_than_two_steps_raises():
    for schedule in (None, NoiseSchedule(1)):
        with pytest.raises(ValueError, match="at least 2 steps"):
            bound_of(Zero(schedule), gradients_8bit(2))


def test_paper_schedule_has_l_t_of_1e_5_bits_per_dim():
    """Ho et al. 2020, section 4: L_T is about 1e-5 bits/dim. Here for pixels uniform on [-1, 1]."""
    schedule = NoiseSchedule(1000, betas=linear_schedule(1000))
    x0, alpha_bar = torch.linspace(-1, 1, 1001, dtype=torch.float64), schedule.alpha_bar(1000).item()
    bits = gaussian_kl(alpha_bar**0.5 * x0, 1 - alpha_bar, torch.zeros_like(x0), 1.0).mean().item() / log(2)
    assert bits == pytest.approx(1e-5, rel=0.1)


class Wild(Zero):
    """Predicts x_0 far outside [-1, 1]."""

    def __init__(self, schedule):
        super().__init__(schedule)
        self.prediction = "x0"

    def forward(self, images, num_steps):  # noqa: ARG002
        return torch.full_like(images, 3.0)


def test_clip_sample_clips_the_x0_estimate():
    images, schedule = gradients_8bit(6), NoiseSchedule(10)
    x0 = images.double() / 127.5 - 1
    for clip_sample, estimate in ((True, 1.0), (False, 3.0)):
        bound = bound_of(Wild(schedule), images, clip_sample=clip_sample)
        expected = (127.5 * (estimate - x0)).square().flatten(1).mean(1)
        assert (bound.squared_errors / expected - 1).abs().max() < 1e-5  # images in float32


def test_distortion_is_root_mean_square_error():
    errors = torch.tensor([[9.0, 16.0], [4.0, 4.0]]).double()
    bound = Bound(torch.zeros(3, 2).double(), errors, stride=1)
    assert bound.distortion.tolist() == pytest.approx([12.5**0.5, 2.0])


def test_margin_matches_stratified_sample_mean():
    # Four images in two strata: the variance of the mean is the sum of n_g var_g / n^2.
    terms = torch.tensor([[1.0, 5.0, 3.0, 9.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]).double()
    bound = Bound(terms, torch.zeros(2, 4).double(), stride=2)
    expected = 1.96 * (2 * 2.0 + 2 * 8.0) ** 0.5 / 4  # strata (1, 3) and (5, 9)
    assert bound.margin == pytest.approx(expected)
    assert bound.bits_per_dim == pytest.approx(4.5)


def test_conditioning_stays_aligned_with_images():
    class Told(Zero):
        def forward(self, images, num_steps, cond):  # noqa: ARG002
            return cond[:, None, None, None].expand_as(images).to(images)

    images = gradients_8bit(9)
    model = Told(NoiseSchedule(6))
    model.prediction = "x0"
    cond = torch.linspace(-1, 1, 9)
    bound = bound_of(model, images, cond=cond, stride=2, batch_size=2)
    expected = (
        (127.5 * (cond.double().reshape(-1, 1, 1, 1) - (images.double() / 127.5 - 1))).square().flatten(1).mean(1)
    )
    taken = bound.squared_errors.isfinite()
    assert (bound.squared_errors - expected)[taken].abs().max() < 1e-2


def test_bound_is_computed_in_eval_mode_without_gradients():
    class Mode(Zero):
        def forward(self, images, num_steps):
            modes.append((self.training, torch.is_grad_enabled()))
            return super().forward(images, num_steps)

    modes, model = [], Mode(NoiseSchedule(3)).train()
    bound_of(model, gradients_8bit(2))
    assert modes == 3 * [(False, False)]
    assert model.training
