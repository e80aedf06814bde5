"""Holes inpainted by an exact model follow the exact conditional distribution."""

import torch
from scipy.stats import kstest

from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.exact.denoiser import ExactDenoiser
from ddpm.run.seeding import generator
from ddpm.sampling.inpaint import inpaint

LEVEL = 0.01  # of the test: one correct sampler in a hundred fails, but the seed is fixed
T = 60


class ExactInpainting(DiffusionModel):
    """The exact denoiser of gradient images with one known corner: E[x_0 | x_t, the colour there].

    With the colour a known, the other colour b is uniform on its levels, and x_t determines its posterior.
    """

    class Conditioning(torch.nn.Module):
        gives_mask, dropout = True, 0.0

        def check(self, _):
            pass

        def draw(self, _, indices):
            return torch.zeros(len(indices), 1, dtype=torch.float64)

        def around(self, _, images, __):
            return images[:, 0, :1, 0].double() / 127.5 - 1

    def __init__(self):
        super().__init__()
        self.exact = ExactDenoiser((1, 3, 4), NoiseSchedule(T, betas=SCHEDULES["cosine"](T)), "x0")
        self.img_shape, self.prediction, self.noise_schedule = (1, 3, 4), "x0", self.exact.noise_schedule
        self.conditioning = self.Conditioning()

    def forward(self, images, num_steps, cond):
        g, levels = self.exact.g, torch.arange(255, dtype=torch.float64) * 2 / 255 - 1
        possible = cond[:, :1, None, None] * (1 - g) + levels[:, None, None] * g  # (b, levels, h, w)
        alpha_bar = self.noise_schedule.alpha_bar(num_steps)[:, None]
        away = (images.double() - alpha_bar.sqrt()[..., None, None] * possible).square().sum((2, 3))
        shares = (-away / (2 * (1 - alpha_bar))).softmax(1)
        return (shares[..., None, None] * possible).sum(1, keepdim=True)

    def with_variance(self, images, num_steps, cond):
        return self(images, num_steps, cond), None


def test_inpainted_colour_is_uniform_and_independent_of_known_one():
    model, n = ExactInpainting(), 400
    images, mask = torch.zeros(n, 1, 3, 4, dtype=torch.float64), torch.ones(3, 4, dtype=torch.bool)
    known = torch.randint(255, (n,), generator=generator(0, "known")).double() / 127.5 - 1
    images[:, 0, 0, 0], mask[0, 0] = known, False
    x = inpaint(model, images, mask, generator(0, "inpaint"))
    assert torch.equal(x[:, 0, 0, 0], known)
    other = x[:, 0, -1, -1]
    # For 400 samples, 255 levels are nearly continuous. The last step leaves noise of 0.01.
    assert kstest(other.numpy(), "uniform", (-1, 2)).pvalue > LEVEL
    corner = torch.corrcoef(torch.stack((known, other)))[0, 1]
    assert abs(corner) < 3.3 / n**0.5  # independent: a correlation has a standard error of 1 / sqrt(n)
    g = model.exact.g
    gradient = known[:, None, None] * (1 - g) + other[:, None, None] * g
    inside = (x[:, 0] - gradient)[:, 1, 1:3].abs().mean()
    assert inside < 0.02  # every other pixel lies between the two
