"""The exact denoiser against Bayes' rule pair by pair, and its Algorithm 2 samples against the data."""

import pytest
import torch

from ddpm.data.gradients import gradient_images, gradients, nearest_corners
from ddpm.diffusion.forward import add_noise
from ddpm.diffusion.posterior import to_x0
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.exact.denoiser import ExactDenoiser
from ddpm.exact.quality import corner_error_floor, measure
from ddpm.images import denormalize_img, normalize_img
from ddpm.run.seeding import generator
from ddpm.sampling.chain import sample_steps
from ddpm.sampling.samplers.ancestral import AncestralOptions
from ddpm.training.evaluate import simple_loss
from ddpm.training.loop import Examples


def noised(shape, t, schedule, n=2):
    stream = generator(0, "exact", t)
    x0 = normalize_img(gradient_images(n, shape, stream)).double()
    steps = torch.full((n,), t)
    return add_noise(x0, torch.randn(x0.shape, generator=stream, dtype=torch.float64), steps, schedule), steps


def by_bayes_rule(xt, alpha_bar):
    """E[x0 | x_t] of one channel: all pairs' images, by likelihood."""
    height, width = xt.shape
    x = torch.linspace(0, width, width, dtype=torch.float64)[None, :]
    y = torch.linspace(0, height, height, dtype=torch.float64)[:, None]
    g = (x + y) / (x + y).max()
    a, b = torch.meshgrid(*2 * [torch.arange(255, dtype=torch.float64)], indexing="ij")
    images = (a[..., None, None] + g * (b - a)[..., None, None]) / 255 * 2 - 1
    log_p = -((xt - alpha_bar**0.5 * images) ** 2).sum((-2, -1)) / (2 * (1 - alpha_bar))
    weights = log_p.flatten().softmax(0).reshape(255, 255)
    return (weights[..., None, None] * images).sum((0, 1))


# Timesteps at which the sum runs over few, many and all pairs.
@pytest.mark.parametrize(("name", "t"), [("linear", 1), ("linear", 12), ("linear", 40), ("cosine", 100)])
@pytest.mark.parametrize("shape", [(1, 4, 5), (1, 1, 2)])
def test_exact_denoiser_follows_bayes_rule(shape, name, t):
    schedule = NoiseSchedule(100, betas=SCHEDULES[name](100))
    xt, steps = noised(shape, t, schedule)
    xt[1] *= 3  # beyond the chain's range: the likeliest pairs are at the edge
    got = to_x0("eps", ExactDenoiser(shape, schedule)(xt, steps), xt, steps, schedule)
    for image, ours in zip(xt, got, strict=True):
        theirs = by_bayes_rule(image[0], schedule.alpha_bar(t).item())
        # From eps back to x0, rounding of 1e-16 grows by 1 / sqrt(alpha_bar), some 1e3 at cosine's end.
        assert (ours[0] - theirs).abs().max() < 1e-10


def test_estimate_at_zero_snr_is_mean_of_the_data():
    schedule = NoiseSchedule(20, betas=SCHEDULES["linear_zero_snr"](20))
    model = ExactDenoiser((1, 4, 5), schedule, "x0")
    xt = torch.randn(3, 1, 4, 5, dtype=torch.float64, generator=generator(0, "x"))
    pairs = torch.cartesian_prod(torch.arange(255), torch.arange(255))
    mean = normalize_img(gradients(pairs, 4, 5)).mean(0)
    assert (model(xt, torch.full((3,), 20)) - mean).abs().max() < 1e-10


@pytest.mark.parametrize("prediction", ["x0", "v"])
def test_predictions_agree_in_a_batch_of_mixed_timesteps(prediction):
    schedule = NoiseSchedule(50)
    model = ExactDenoiser((3, 2, 3), schedule)
    batch = [noised((3, 2, 3), t, schedule, 1) for t in (50, 3, 20, 3)]
    xt, steps = (torch.cat(parts) for parts in zip(*batch, strict=True))
    alone = torch.cat([to_x0("eps", model(*one), *one, schedule) for one in batch])
    together = to_x0(prediction, ExactDenoiser((3, 2, 3), schedule, prediction)(xt, steps), xt, steps, schedule)
    assert (together - alone).abs().max() < 1e-10


def test_scaling_the_prediction_increases_the_loss():
    # At the optimum, L(scale * eps) has its minimum at scale 1. Per 4 % the loss rises by 0.0016 E[eps_hat^2], some
    # 0.0015, and its slope there is 2 E[eps_hat (eps_hat - eps)], whose mean is 0: over 300 images of 60 values with
    # E[(eps_hat - eps)^2] of about 0.1, 4 % of it has a standard deviation below 0.08 * (0.1 / 18000)^0.5 = 0.0002.
    images = Examples(normalize_img(gradient_images(300, (3, 4, 5), generator(0, "images"))))
    model = ExactDenoiser((3, 4, 5), NoiseSchedule(100))
    forward, losses = model.forward, []
    for scale in (0.96, 1.0, 1.04):
        model.forward = lambda xt, t, scale=scale: scale * forward(xt, t)
        losses.append(simple_loss(model, images, seed=0))
    assert losses[1] < losses[0]
    assert losses[1] < losses[2]


def drawn(name, max_steps, n):
    model = ExactDenoiser((3, 4, 5), NoiseSchedule(max_steps, betas=SCHEDULES[name](max_steps)))
    streams = [generator(0, "samples", i) for i in range(n)]
    *_, x = sample_steps(model, streams, options=AncestralOptions(variance="fixed_small"))
    return x


def test_ancestral_samples_are_gradients_of_uniform_colours():
    x = drawn("rescaled_linear", 100, n=128)
    # The last x0 estimate is a mean of gradients: rounding its corners moves each pixel by half a level at most.
    pixels = denormalize_img(x).double()
    nearest = gradients(nearest_corners(pixels), 4, 5)
    assert (pixels - nearest).square().mean((-2, -1)).sqrt().max() < 0.5 / 255 + 1e-6
    level = 1e-3
    assert measure(x).p_value > level
    # The linear schedule keeps 0.88 of the strength of the image at T = 25, so starting from pure noise is wrong there.
    assert measure(drawn("linear", 25, n=128)).p_value < level


def test_corner_error_decreases_with_number_of_steps():
    n = 512
    # By the triangle inequality, chance moves a corner error by no more than the corner error of as many uniform
    # colours, whose standard deviation is 40 % of its mean: 1 + 4.5 * 0.4 times the mean, for each of the two.
    chance = 2 * 2.8 * corner_error_floor(3 * n, generator(0, "floor"))
    coarse, fine = (measure(drawn("cosine", max_steps, n)).corner_error for max_steps in (3, 10))
    assert coarse - fine > chance


def test_exact_denoiser_rejects_a_single_pixel():
    with pytest.raises(ValueError, match="at least 2 pixels"):
        ExactDenoiser((3, 1, 1), NoiseSchedule(10))
