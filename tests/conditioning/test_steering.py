"""Both kinds of guidance against the exact posterior of a mixture of Gaussians with labels."""

import pytest
import torch
from torch import nn

from ddpm.conditioning.guidance import Guided
from ddpm.conditioning.steering import Steered
from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.posterior import target, to_eps
from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.run.seeding import generator

MEANS, SPREAD = torch.tensor([[-0.5, 0.3], [0.6, 0.1], [0.0, -0.7]], dtype=torch.float64), 0.2
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
PREDICTIONS = pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
T = 50


class Mixture(DiffusionModel):
    """The exact prediction for x_0 ~ sum_y w_y N(mu_y, s^2 I), given label y, or for the whole mixture given -1."""

    class Conditioning(nn.Module):
        def null(self, cond):
            return torch.full_like(cond, -1)

    def __init__(self, prediction):
        super().__init__()
        self.img_shape, self.prediction = (1, 1, 2), prediction
        self.noise_schedule = NoiseSchedule(T, betas=cosine_schedule(T))
        self.conditioning = self.Conditioning()

    def log_parts(self, xt, num_steps):
        """log w_y p(x_t | y), of shape (b, y), up to a constant that is the same for all y."""
        alpha_bar = self.noise_schedule.alpha_bar(num_steps)[:, None]
        away = xt.flatten(1)[:, None] - alpha_bar[..., None].sqrt() * MEANS
        return WEIGHTS.log() - away.square().sum(2) / (2 * (alpha_bar * SPREAD**2 + 1 - alpha_bar))

    def log_label(self, labels):
        """log p(y | x_t)."""
        return lambda xt, num_steps: self.log_parts(xt, num_steps).log_softmax(1)[torch.arange(len(xt)), labels]

    def forward(self, images, num_steps, cond=None):
        labels = torch.full((len(images),), -1) if cond is None else cond
        alpha_bar = self.noise_schedule.alpha_bar(num_steps)[:, None, None]
        gain = SPREAD**2 * alpha_bar.sqrt() / (alpha_bar * SPREAD**2 + 1 - alpha_bar)
        parts = MEANS + gain * (images.flatten(1)[:, None] - alpha_bar.sqrt() * MEANS)
        shares = self.log_parts(images, num_steps).softmax(1)
        own = nn.functional.one_hot(labels.clamp(min=0), len(MEANS)).double()
        x0 = (torch.where(labels[:, None] < 0, shares, own)[..., None] * parts).sum(1).reshape(images.shape)
        eps = to_eps("x0", x0, images, num_steps, self.noise_schedule)
        return target(self.prediction, x0, eps, num_steps, self.noise_schedule)


def noised():
    num_steps = torch.tensor([1, 10, 25, 40, 49, 30])
    xt = torch.randn(6, 1, 1, 2, generator=generator(0, "x"), dtype=torch.float64)
    return xt, num_steps, torch.tensor([0, 1, 2, 2, 0, 1])


@PREDICTIONS
def test_steering_by_exact_likelihood_gives_the_posterior(prediction):
    model, (xt, num_steps, labels) = Mixture(prediction), noised()
    found = Steered(model, model.log_label(labels), 1.0)(xt, num_steps)
    torch.testing.assert_close(found, model(xt, num_steps, labels), rtol=1e-9, atol=1e-9)  # float64
    found = Steered(model, model.log_label(labels), 0.0)(xt, num_steps)
    exact = prediction != "v"  # which is computed from the noise and the image
    torch.testing.assert_close(found, model(xt, num_steps), rtol=0, atol=0 if exact else 1e-9)


@PREDICTIONS
@pytest.mark.parametrize("scale", [0.5, 2.0, 5.0])
def test_both_guidances_follow_the_sharpened_posterior_score(prediction, scale):
    """p(x_t) p(y | x_t)^s, differentiated by autograd."""
    model, (xt, num_steps, labels) = Mixture(prediction), noised()
    x = xt.clone().requires_grad_()
    log_p = model.log_parts(x, num_steps).logsumexp(1) + scale * model.log_label(labels)(x, num_steps)
    [score] = torch.autograd.grad(log_p.sum(), x)
    noise = (1 - model.noise_schedule.alpha_bar(num_steps)).sqrt()[:, None, None, None]
    for guided in (Steered(model, model.log_label(labels), scale), Guided(model, labels, scale)):
        eps = to_eps(prediction, guided(xt, num_steps), xt, num_steps, model.noise_schedule)
        torch.testing.assert_close(eps, -noise * score, rtol=1e-8, atol=1e-8)


def test_steering_keeps_the_learned_variance(monkeypatch):
    model, (xt, num_steps, labels) = Mixture("eps"), noised()
    v = torch.rand(xt.shape, generator=generator(0, "v"))
    monkeypatch.setattr(model, "with_variance", lambda *given: (model(*given), v))
    assert Steered(model, model.log_label(labels), 2.0).with_variance(xt, num_steps)[1] is v


def test_steering_works_under_no_grad():
    model, (xt, num_steps, labels) = Mixture("v"), noised()
    steered = Steered(model, model.log_label(labels), 1.0)
    with torch.no_grad():
        torch.testing.assert_close(steered(xt, num_steps), model(xt, num_steps, labels), rtol=1e-9, atol=1e-9)
    assert (steered.img_shape, steered.prediction, steered.conditioning) == ((1, 1, 2), "v", None)
