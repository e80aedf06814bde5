"""Each weighting of the training loss against its closed form, diffusers and torch.distributions."""

from math import log

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch.distributions import Normal, kl_divergence

from ddpm.diffusion.forward import add_noise
from ddpm.diffusion.loss import training_loss, weight
from ddpm.diffusion.posterior import target, to_eps, to_x0
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.run.seeding import generator

PREDICTIONS = ["eps", "x0", "v", "mean"]
T = 50
STEPS = torch.tensor([1, 1, 2, 5, 20, 35, 49, 50])
LATER = STEPS[2:]  # for closed forms that hold from t = 2 on


class Case:
    """8-bit images, noise and a prediction off by some tenths, all in float64."""

    def __init__(self, prediction, steps, schedule="rescaled_linear"):
        stream = generator(0, "case")
        self.schedule = NoiseSchedule(T, betas=SCHEDULES[schedule](T))
        self.prediction, self.steps = prediction, steps
        levels = torch.randint(256, (len(steps), 1, 4, 5), generator=stream)
        self.x0 = levels.double() / 255 * 2 - 1
        self.eps, error, v = torch.randn(3, *self.x0.shape, generator=stream, dtype=torch.float64)
        self.xt = add_noise(self.x0, self.eps, steps, self.schedule)
        self.wanted = target(prediction, self.x0, self.eps, steps, self.schedule)
        self.predicted = (self.wanted + error / 4).float().double().requires_grad_()  # the loss squares it in float32
        self.v = (0.5 + v / 4).requires_grad_()

    def loss(self, weighting, v=None):
        losses = training_loss(
            weighting, self.prediction, self.predicted, v, self.x0, self.eps, self.xt, self.steps, self.schedule
        )
        return losses.mean()

    def bound(self, sigma2):
        """L_{t-1}, or L_0 if all steps are 1, by torch.distributions and equation 11, in bits."""
        beta = self.schedule.betas[self.steps - 1].reshape(-1, 1, 1, 1)
        alpha_bar = (1 - self.schedule.betas).cumprod(0)[self.steps - 1].reshape(-1, 1, 1, 1)
        eps = to_eps(self.prediction, self.predicted, self.xt, self.steps, self.schedule)
        mean, true = (
            (self.xt - beta / (1 - alpha_bar).sqrt() * noise) / (1 - beta).sqrt() for noise in (eps, self.eps)
        )
        gaussian = Normal(mean, sigma2.sqrt())
        if (self.steps > 1).all():
            return kl_divergence(Normal(true, self.small().sqrt()), gaussian) / log(2)
        upper = torch.where(self.x0 > 0.999, 1.0, gaussian.cdf(self.x0 + 1 / 255))
        lower = torch.where(self.x0 < -0.999, 0.0, gaussian.cdf(self.x0 - 1 / 255))
        return -(upper - lower).log() / log(2)

    def small(self):
        """beta_tilde_t, and beta_tilde_2 at t = 1."""
        bars = torch.cat((torch.ones(1, dtype=torch.float64), (1 - self.schedule.betas).cumprod(0)))
        t = self.steps.clamp(min=2)
        return (self.schedule.betas[t - 1] * (1 - bars[t - 1]) / (1 - bars[t])).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_simple_loss_is_mean_squared_error(prediction):
    case = Case(prediction, STEPS)
    expected = ((case.predicted - case.wanted) ** 2).mean()
    assert (case.loss("simple") / expected - 1).abs() < 1e-6  # the prediction in float32


@pytest.mark.parametrize(
    ("prediction", "theirs"),
    [
        ("eps", lambda snr: snr.clamp(max=5) / snr),
        ("x0", lambda snr: snr.clamp(max=5)),
        ("v", lambda snr: snr.clamp(max=5) / (snr + 1)),
    ],
)
@pytest.mark.parametrize("name", ["linear", "rescaled_linear", "cosine"])
def test_min_snr_weights_match_diffusers(prediction, theirs, name):
    schedule, steps = NoiseSchedule(T, betas=SCHEDULES[name](T)), torch.arange(1, T + 1)
    scheduler = DDPMScheduler(T)
    scheduler.alphas_cumprod = schedule.alpha_bars
    ours = weight("min_snr", prediction, steps, schedule).flatten()
    assert (ours / theirs(compute_snr(scheduler, steps - 1)) - 1).abs().max() < 1e-5  # theirs is in float32


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(
    ("weighting", "of_image"), [("x0", torch.ones_like), ("min_snr", lambda snr: snr.clamp(max=5))]
)
def test_x0_and_min_snr_weight_the_error_of_the_image(prediction, weighting, of_image):
    case = Case(prediction, STEPS)
    alpha_bar = case.schedule.alpha_bars[STEPS - 1].reshape(-1, 1, 1, 1)
    image = to_x0(prediction, case.predicted, case.xt, STEPS, case.schedule)
    expected = (of_image(alpha_bar / (1 - alpha_bar)) * (image - case.x0) ** 2).mean()
    assert (case.loss(weighting) / expected - 1).abs() < 1e-5  # float32


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_bound_is_equation_12_in_bits_per_dim(prediction):
    case = Case(prediction, LATER)
    beta = case.schedule.betas[LATER - 1].reshape(-1, 1, 1, 1)
    alpha_bar = (1 - case.schedule.betas).cumprod(0)[LATER - 1].reshape(-1, 1, 1, 1)
    error = (to_eps(prediction, case.predicted, case.xt, LATER, case.schedule) - case.eps) ** 2
    weight = beta**2 / (2 * case.small() * (1 - beta) * (1 - alpha_bar))
    assert (case.loss("bound") / (T * (weight * error).mean() / log(2)) - 1).abs() < 1e-9


def test_bound_at_t_1_is_the_discrete_decoder():
    # A prediction within half a level keeps the Gaussian's mass computable as a difference of two cdf's.
    case = Case("x0", torch.ones(4, dtype=torch.long))
    with torch.no_grad():
        case.predicted.copy_(case.x0 + 0.002)
    assert (case.loss("bound") / (T * case.bound(case.small()).mean()) - 1).abs() < 1e-9


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("weighting", ["simple", "x0", "min_snr"])
def test_hybrid_loss_adds_bound_that_trains_only_the_variance(prediction, weighting):
    case = Case(prediction, LATER)
    sigma2 = (case.v * case.schedule.beta(LATER).reshape(-1, 1, 1, 1).log() + (1 - case.v) * case.small().log()).exp()
    bound = T * case.bound(sigma2).mean()
    plain, hybrid = case.loss(weighting), case.loss(weighting, case.v)
    assert (hybrid - plain - 0.001 * bound).abs() < 1e-9 * bound + 1e-7  # the plain loss is in float32
    of_plain, of_hybrid = (torch.autograd.grad(loss, case.predicted, retain_graph=True)[0] for loss in (plain, hybrid))
    assert torch.equal(of_plain, of_hybrid)
    of_v, expected = (torch.autograd.grad(loss, case.v)[0] for loss in (hybrid, 0.001 * bound))
    assert (of_v - expected).abs().max() < 1e-9 * expected.abs().max()


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_bound_with_learned_variance_trains_mean_and_variance(prediction):
    case = Case(prediction, LATER)
    sigma2 = (case.v * case.schedule.beta(LATER).reshape(-1, 1, 1, 1).log() + (1 - case.v) * case.small().log()).exp()
    ours, theirs = case.loss("bound", case.v), T * case.bound(sigma2).mean()
    assert (ours / theirs - 1).abs() < 1e-9
    for got, expected in zip(
        *(torch.autograd.grad(loss, (case.predicted, case.v)) for loss in (ours, theirs)), strict=True
    ):
        assert (got - expected).abs().max() < 1e-9 * expected.abs().max()
