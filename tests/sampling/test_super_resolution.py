"""Super-resolution of Gaussian images, where the posterior given the low-resolution image is known in closed form."""

import pytest
import torch

from ddpm.conditioning.kinds.low_resolution import LowResolution, scales, with_noise
from ddpm.data.pooling import pooled
from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.run.seeding import generator
from ddpm.sampling.sample import sample

SHAPE, LOW, N = (1, 4, 4), (1, 2, 2), 4000
POOL = pooled(torch.eye(16, dtype=torch.float64).reshape(16, *SHAPE), 2).reshape(16, 4).T  # low = POOL x_0
# Pixels vary with the whole image, with their block and on their own.
COVARIANCE = 0.1 + 4 * 0.2 * POOL.T @ POOL * 4 + 0.1 * torch.eye(16, dtype=torch.float64)
MEAN = torch.linspace(-0.5, 0.5, 16, dtype=torch.float64)


def posterior(observed, of, noise_covariance):
    """Mean and covariance of x_0 given observed = of x_0 + noise."""
    gain = COVARIANCE @ of.T @ torch.linalg.inv(of @ COVARIANCE @ of.T + noise_covariance)
    return MEAN + (observed - MEAN @ of.T) @ gain.T, COVARIANCE - gain @ of @ COVARIANCE


class GaussianSuperResolution(DiffusionModel):
    """E[x_0 | x_t, low-resolution image, its level] for Gaussian x_0."""

    def __init__(self):
        super().__init__()
        self.img_shape, self.prediction = SHAPE, "x0"
        self.noise_schedule = NoiseSchedule(1000, betas=cosine_schedule(1000))
        self.conditioning = LowResolution(SHAPE, 0, 8, factor=2, max_level=1.0, dropout=0.0)

    def forward(self, images, num_steps, cond):
        alpha_bar = self.noise_schedule.alpha_bar(num_steps[:1]).item()
        x0 = torch.empty_like(images)
        for level in cond[:, -1, 0, 0].unique():
            chosen = cond[:, -1, 0, 0] == level
            alpha, sigma = (float(scale) for scale in scales(level.double()))
            of = torch.cat((alpha_bar**0.5 * torch.eye(16, dtype=torch.float64), alpha * POOL))
            noise = torch.tensor([1 - alpha_bar] * 16 + [sigma**2] * 4, dtype=torch.float64).diag()
            observed = torch.cat((images[chosen].flatten(1), cond[chosen, :-1].flatten(1)), dim=1).double()
            x0[chosen] = posterior(observed, of, noise)[0].reshape(-1, *SHAPE).to(x0)
        return x0


def standard_normal(name, *shape):
    return torch.randn(*shape, generator=generator(0, name))


def low_resolution(level, told=None, n=N):
    """The cond of low-resolution images of a perfect base model. `told` replaces the level passed to the network."""
    factor = torch.linalg.cholesky(POOL @ COVARIANCE @ POOL.T).float()
    low = (POOL @ MEAN).float() + standard_normal("low", n, 4) @ factor.T
    cond = with_noise(low.reshape(n, *LOW), torch.full((n,), level), standard_normal("augmentation", n, *LOW))
    cond[:, -1] = level if told is None else told
    return cond


def drawn(cond):
    images = sample(GaussianSuperResolution(), len(cond), cond=cond, sampler="heun", n_steps=40, spacing="karras")
    return images.flatten(1).double()


def agree(found, mean, covariance):
    """Whether samples have this mean and covariance, within five standard errors and the solver's own error of 1 %."""
    spread = covariance.diag().clamp(min=1e-12).sqrt()
    outer = spread[:, None] * spread
    of_covariance = ((outer**2 + covariance**2) / len(found)).sqrt()
    means = (found.mean(0) - mean).abs() <= 5 * spread / len(found) ** 0.5 + 0.01
    covariances = (found.T.cov() - covariance).abs() <= 5 * of_covariance + 0.01 * outer
    return bool(means.all() and covariances.all())


@pytest.mark.parametrize("level", [0.1, 0.5])
def test_samples_follow_posterior_given_low_resolution_image(level):
    cond = low_resolution(level, n=1).expand(N, -1, -1, -1)
    alpha, sigma = (float(scale) for scale in scales(torch.tensor(level, dtype=torch.float64)))
    noise = sigma**2 * torch.eye(4, dtype=torch.float64)
    mean, covariance = posterior(cond[0, :-1].flatten().double(), alpha * POOL, noise)
    assert agree(drawn(cond), mean, covariance)


def test_noiseless_samples_pool_to_their_low_resolution_image():
    cond = low_resolution(0.0, n=50)
    assert (drawn(cond) @ POOL.T - cond[:, :-1].flatten(1)).abs().max() < 1e-3


@pytest.mark.parametrize("level", [0.1, 0.5])
def test_cascade_reproduces_data_distribution_at_any_level(level):
    # p(noised low) p(x_0 | noised low), summed over the noised low-resolution image, is p(x_0).
    assert agree(drawn(low_resolution(level)), MEAN, COVARIANCE)


@pytest.mark.parametrize(("level", "told"), [(0.5, 0.25), (0.3, 0.0)])
def test_wrong_noise_level_is_detected(level, told):
    assert not agree(drawn(low_resolution(level, told)), MEAN, COVARIANCE)
