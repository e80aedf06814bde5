"""Images to noise and back, against the exact probability flow of Gaussian data."""

import pytest
import torch
from analytic import SHAPE, Gaussian, Known, Linear

from ddpm import encode, noise_to, sample
from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.run.seeding import generator


class Exact(DiffusionModel):
    """The exact estimate of x_0 ~ N(mu, s^2 I)."""

    def __init__(self, max_steps, schedule="cosine"):
        super().__init__()
        self.img_shape, self.prediction = SHAPE, "x0"
        self.noise_schedule = NoiseSchedule(max_steps, betas=SCHEDULES[schedule](max_steps))
        self.data = Gaussian(self.noise_schedule)

    def forward(self, images, num_steps):
        return self.data.x0(images, int(num_steps[0]))


def error(max_steps, **options):
    """The largest error of latents of images within two standard deviations."""
    model = Exact(max_steps)
    z = model.data.z.clamp(-2, 2)
    images = (model.data.mu + model.data.s * z).clamp(-1.4, 1.4)
    z = (images - model.data.mu) / model.data.s
    return (encode(model, images, **options) - z).abs().max().item()  # x_T = z: the mean has vanished there


def test_encode_converges_to_exact_flow_at_first_order():
    # The explicit Euler method is of first order: half the steps, twice the error.
    assert error(1000) < 0.02
    assert 1.5 < error(250) / error(500) < 2.7
    assert error(1000, n_steps=250) == pytest.approx(error(250), rel=0.2)


def test_ddim_inverts_encode():
    model = Exact(500)
    images = torch.rand(3, *SHAPE, generator=generator(0, "images"), dtype=torch.float64) * 2 - 1
    latents = encode(model, images, batch_size=2)
    assert (sample(model, 3, start=latents, sampler="ddim") - images).abs().max() < 0.02
    assert torch.equal(latents, encode(model, images))


def test_each_image_is_encoded_with_its_own_label():
    model, images, labels = Known(0.5, -0.3), torch.full((3, *SHAPE), 0.1), torch.tensor([0, 1, 1])
    alone = [encode(model, images[i : i + 1], labels=labels[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(encode(model, images, labels=labels, batch_size=2), torch.cat(alone))
    assert (alone[0] - alone[1]).abs().min() > 0.1


def test_encode_and_noise_to_use_their_options():
    model = Exact(20, "linear")
    images = torch.rand(2, *SHAPE, generator=generator(0, "images"), dtype=torch.float64)
    assert not torch.equal(encode(model, images, n_steps=5), encode(model, images, n_steps=5, spacing="karras"))
    noised, other = (noise_to(model, images, 9, generator(0, key)) for key in "ab")
    assert not torch.equal(noised, other)


def test_noise_to_matches_equation_4():
    model = Linear()
    images = torch.full((2000, *SHAPE), 0.5)
    t, alpha_bar = 12, model.noise_schedule.alpha_bar(12).item()
    x = noise_to(model, images, t, generator(0, "noise"))
    n = x.numel()
    # Bounds of 4.5 standard errors: a right mean or variance fails once in 150,000 seeds.
    assert abs(x.mean() - alpha_bar**0.5 * 0.5) < 4.5 * ((1 - alpha_bar) / n) ** 0.5
    assert abs(x.var() / (1 - alpha_bar) - 1) < 4.5 * (2 / n) ** 0.5
    assert torch.equal(x[:3], noise_to(model, images[:3], t, generator(0, "noise")))


def test_sample_continues_from_start_at_num_steps():
    """From x_t of Gaussian data, the sampler ends where the exact flow does."""
    model = Exact(500)
    xt = model.data.flow(200)
    x0 = sample(model, 2, start=xt, num_steps=200, sampler="ddim")
    assert (x0 - (model.data.mu + model.data.s * model.data.z)).abs().max() < 0.02
    assert len(sample(model, 2, start=xt, num_steps=200, return_all_steps=True)) == 201
    assert len(sample(model, 2, start=xt, num_steps=200, n_steps=50, return_all_steps=True)) == 21


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m, x: encode(m, x[:, :1]), r"images has shape \(2, 1, 4, 5\); this network takes \(n, 3, 4, 5\)"),
        (lambda m, x: encode(m, (x * 255).byte()), "images has type torch.uint8; it must be floats in"),
        (lambda m, x: encode(m, x * 255), "images has values from .* they must be in"),
        (lambda m, x: encode(m, x * float("nan")), "images has values from nan"),
        (lambda m, x: encode(m, x, n_steps=21), "n_steps is 21; it must be in 1..20"),
        (lambda m, x: encode(m, x, batch_size=0), "batch_size is 0; it must be at least 1"),
        (lambda m, x: encode(m, x, spacing="odd"), "'odd' is not a spacing; allowed: even, karras"),
        (lambda m, x: encode(m, x, labels=torch.tensor([0, 1])), "labels is given; this model is unconditional"),
        (lambda m, x: noise_to(m, x, 0), r"num_steps is 0; it must be in 1\.\.20"),
        (lambda m, x: noise_to(m, x, 21), r"num_steps is 21; it must be in 1\.\.20"),
        (lambda m, x: sample(m, 3, start=x), r"start has shape \(2, 3, 4, 5\) .* it must be floats, \(3, 3, 4, 5\)"),
        (lambda m, x: sample(m, 2, start=x, num_steps=21), r"num_steps is 21; it must be in 1\.\.20"),
        (lambda m, _: sample(m, 2, num_steps=5), "num_steps is 5; it is the t of start, which must be given too"),
    ],
)
def test_invalid_arguments_are_rejected(call, said):
    with pytest.raises(ValueError, match=said):
        call(Linear(), torch.rand(2, *SHAPE, generator=generator(0, "images")))


def test_encode_and_noise_to_accept_empty_batch():
    model, none = Linear(), torch.empty(0, *SHAPE)
    assert encode(model, none).shape == noise_to(model, none, 3).shape == (0, *SHAPE)
