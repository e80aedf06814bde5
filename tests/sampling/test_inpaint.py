"""Inpainted pixels, against the exact conditional distribution of the data."""

import pytest
import torch
from analytic import SHAPE, Known, Linear
from torch import linalg

from ddpm import inpaint
from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.exact.denoiser import ExactDenoiser
from ddpm.run.seeding import generator

KNOWN, UNKNOWN = [0, 3], [1, 2]


def schedule(max_steps):
    return NoiseSchedule(max_steps, betas=SCHEDULES["cosine"](max_steps))


class Correlated(DiffusionModel):
    """The exact estimate of x_0 ~ N(mu, cov): four pixels in a row, each like its neighbours."""

    def __init__(self, max_steps):
        super().__init__()
        self.img_shape, self.prediction, self.noise_schedule = (1, 1, 4), "x0", schedule(max_steps)
        place = torch.arange(4, dtype=torch.float64)
        self.cov = 0.3**2 * 0.7 ** (place[:, None] - place).abs()
        self.mu = torch.tensor([0.1, -0.2, 0.3, 0.0], dtype=torch.float64)

    def forward(self, images, num_steps):
        alpha_bar = self.noise_schedule.alpha_bar(int(num_steps[0])).item()
        noisy = alpha_bar * self.cov + (1 - alpha_bar) * torch.eye(4, dtype=torch.float64)
        gain = alpha_bar**0.5 * self.cov @ linalg.inv(noisy)
        x = images.double().flatten(1) - alpha_bar**0.5 * self.mu
        return (self.mu + x @ gain.T).reshape(images.shape).to(images)

    def conditional(self, known):
        """Mean and covariance of the unknown pixels, given the known ones."""
        across = self.cov[UNKNOWN][:, KNOWN] @ linalg.inv(self.cov[KNOWN][:, KNOWN])
        mean = self.mu[UNKNOWN] + across @ (known - self.mu[KNOWN])
        return mean, self.cov[UNKNOWN][:, UNKNOWN] - across @ self.cov[KNOWN][:, UNKNOWN]


def test_inpainted_pixels_follow_conditional_distribution():
    model, n = Correlated(100), 500
    pixels = torch.tensor([0.5, 7.0, -7.0, -0.4], dtype=torch.float64).clamp(-1, 1)  # masked pixels are not read
    images, mask = pixels.expand(n, 1, 1, 4), torch.tensor([[False, True, True, False]])
    x = inpaint(model, images, mask, generator(0, "inpaint")).flatten(1)
    assert torch.equal(x[:, KNOWN], images.flatten(1)[:, KNOWN])
    mean, cov = model.conditional(pixels[KNOWN])
    # 4.5 standard errors, 0.04, and 0.01 for the bias of the mean after ten resamplings (without them 0.04).
    assert (x[:, UNKNOWN].mean(0) - mean).abs().max() < 0.05
    # In 100 steps, the lower bound of the variance leaves a fifth out. The variance of a sample varies by 6 %.
    assert ((torch.cov(x[:, UNKNOWN].T) / cov) - 0.8).abs().max() < 0.3


def test_unknown_colour_of_gradient_stays_uniform():
    """A known corner fixes one colour, and the other is independent of it."""
    model, n = ExactDenoiser((1, 3, 4), schedule(50), "x0"), 200
    images, mask = torch.zeros(n, 1, 3, 4, dtype=torch.float64), torch.ones(3, 4, dtype=torch.bool)
    images[..., 0, 0], mask[0, 0] = 0.2, False
    x = inpaint(model, images, mask, generator(0, "inpaint"))
    other = x[:, 0, -1, -1]
    # Uniform on [-1, 1]: mean 0, variance 1/3, fourth moment 1/5. Bounds of 4.5 standard errors.
    assert abs(other.mean()) < 4.5 * (1 / 3 / n) ** 0.5
    assert abs(other.square().mean() - 1 / 3) < 4.5 * ((1 / 5 - 1 / 9) / n) ** 0.5
    middle = x[:, 0, 1, 1] - (0.2 + (other - 0.2) * model.g[1, 1])
    assert middle.abs().mean() < 0.05  # nearly a gradient between the two, but 0.06 if no step is repeated


def test_step_of_hole_has_the_smaller_variance():
    """If x_0 = 0 is known, x at t = 10 is Gaussian by equation 7, from x_T with variance 1: beta_tilde is added."""
    model, seen = Known(0.0), {}
    images, mask = torch.zeros(200, *SHAPE), torch.ones(4, 5, dtype=torch.bool)
    labels = torch.zeros(200, dtype=torch.int64)
    how = {"n_steps": 2, "n_resamples": 1, "on_step": lambda t, x: seen.update({t: x})}
    inpaint(model, images, mask, generator(0, "inpaint"), labels=labels, **how)
    before, after = (model.noise_schedule.alpha_bar(t).item() for t in (10, 20))
    share, kept = (1 - before) / (1 - after), after / before
    expected = kept * share**2 + share * (1 - kept)
    n = seen[10].numel()
    assert abs(seen[10].var().item() / expected - 1) < 4.5 * (2 / n) ** 0.5  # standard errors


@pytest.mark.parametrize("n_steps", [1, 5])
def test_last_step_adds_no_noise(n_steps):
    """Lugmayr et al. 2022, Algorithm 1: z = 0 at t = 1. In few steps it would show as grain."""
    model, images, mask, seen = Correlated(100), torch.zeros(8, 1, 1, 4), torch.tensor([[False, True, True, False]]), []
    x = inpaint(
        model,
        images,
        mask,
        generator(0, "inpaint"),
        n_resamples=1,
        n_steps=n_steps,
        on_step=lambda t, x: seen.append((torch.tensor([t]), x)),
    )
    estimate = model(seen[-2][1], seen[-2][0])
    assert (x - estimate)[..., UNKNOWN].abs().max() < 1e-6


def test_batch_size_does_not_matter_with_one_mask_per_image():
    model = Linear()
    images = torch.rand(3, *SHAPE, generator=generator(0, "images"))
    masks = torch.rand(3, 1, *SHAPE[1:], generator=generator(0, "masks")) > 0.5
    together = inpaint(model, images, masks, generator(0, "inpaint"), n_resamples=2)
    apart = inpaint(model, images, masks, generator(0, "inpaint"), n_resamples=2, batch_size=1)
    assert (together - apart).abs().max() < 1e-6
    known = ~masks.expand_as(images)
    assert torch.equal(together[known], images[known])
    assert inpaint(model, images[:0], masks[0, 0]).shape == (0, *SHAPE)


@pytest.mark.parametrize(("clip_sample", "last"), [(False, [1.5, -0.9, -0.9]), (True, [1.0, -0.9, -0.9])])
def test_each_batch_is_guided_by_its_own_labels_and_clipped(clip_sample, last):
    """With a guidance scale of 3, estimates are three times those of the class, since they are 0 without a label."""
    images, mask = torch.zeros(3, *SHAPE), torch.ones(4, 5, dtype=torch.bool)
    options = {"labels": torch.tensor([0, 1, 1]), "guidance_scale": 3.0, "clip_sample": clip_sample, "batch_size": 1}
    x = inpaint(Known(0.5, -0.3), images, mask, n_steps=4, n_resamples=2, **options)
    torch.testing.assert_close(x, torch.tensor(last).reshape(-1, 1, 1, 1).expand_as(x))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"mask": torch.ones(4, 5)}, r"mask has shape \(4, 5\) and type torch.float32; it must be bool, \(4, 5\)"),
        ({"mask": torch.ones(5, 4, dtype=torch.bool)}, r"mask has shape \(5, 4\)"),
        ({"n_resamples": 0}, "n_resamples is 0; it must be at least 1"),
        ({"images": torch.zeros(2, 1, 4, 5)}, r"images has shape \(2, 1, 4, 5\); this network takes \(n, 3, 4, 5\)"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"guidance_scale": 2.0}, "guidance_scale is 2; this model was trained without dropout of its conditioning"),
        ({"n_steps": 0}, "n_steps is 0; it must be in 1..20"),
    ],
)
def test_inpaint_rejects_invalid_arguments(arguments, said):
    good = {"images": torch.zeros(2, *SHAPE), "mask": torch.ones(4, 5, dtype=torch.bool)}
    with pytest.raises(ValueError, match=said):
        inpaint(Linear(), **good | arguments)


def test_on_step_is_called_once_per_timestep():
    images, mask, seen = torch.zeros(2, *SHAPE), torch.ones(4, 5, dtype=torch.bool), []
    filled = inpaint(
        Linear(20), images, mask, generator(0, "a"), n_steps=4, n_resamples=3, on_step=lambda t, x: seen.append((t, x))
    )
    assert [t for t, _ in seen] == [20, 15, 10, 5, 0]
    assert torch.equal(seen[-1][1], filled)
