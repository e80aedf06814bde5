"""Holes inpainted by an exact model follow the exact conditional distribution, and a stage's params arrive."""

import torch
from scipy.stats import kstest

from ddpm.captions.vocabulary import tokens
from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.exact.denoiser import ExactDenoiser
from ddpm.images import denormalize_img, to_uint8
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.run.compute import Compute
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import generator, global_stream
from ddpm.run.stage import StageRun
from ddpm.run.tracking.record import Run
from ddpm.sampling.arguments import noise_seeds
from ddpm.sampling.given import draw_given
from ddpm.sampling.holes import Fill, fill_by_replacing, fill_by_training
from ddpm.sampling.inpaint import inpaint
from ddpm.sampling.sample import sample

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


def network(conditioning):
    text = {"name": conditioning, "width": 8, "layers": 1, "heads": 2, "dropout": 0.2}
    with global_stream(0, "init"):
        model = Unet(UnetConfig((1, 4, 4), 8, (1,), 2, 10, heads=2, conditioning=text, n_classes=10)).eval()
    model.noise_schedule, model.prediction = NoiseSchedule(10), "x0"
    with torch.no_grad():  # at initialisation the head is too weak to show conditioning
        model.conv_out.weight.mul_(3)
    return model


IMAGES = torch.randint(256, (3, 1, 4, 4), generator=generator(0, "images"), dtype=torch.uint8)
X0, ROWS = IMAGES / 127.5 - 1, tokens(["a bag", "a pale boot", "trousers"])
HOLES = torch.zeros(3, 1, 4, 4, dtype=torch.bool)
HOLES[..., 1:, 2:] = True
HOW = {"n_steps": 4, "guidance_scale": 3.0, "clip_sample": True}


def stage_of(**changes):
    numbers = {"n_samples": 3, "replace_steps": 5, "n_resamples": 2, "n_halves": 2, "batch_size": 2}
    drawing = {"sampler": "ddim", "spacing": "karras"}
    return StageRun("inpaint", Fill(**HOW | numbers | drawing | changes), 4, Compute(), Run())


def alike(found, expected):
    """Whether 8-bit images are equal, except that a cut batch may round to the neighbouring level."""
    return (found.int() - expected.int()).abs().max() <= 1


def test_trained_network_draws_only_holes_from_captions_and_known_pixels():
    model, stage = network("inpainting"), stage_of()
    found = fill_by_training(stage, model, X0, HOLES, ROWS)
    around = torch.cat((ROWS, IMAGES.masked_fill(HOLES, 0).flatten(1), HOLES.flatten(1)), dim=1).to(torch.uint8)
    drawn = draw_given(model, around, 3.0, stage.params, stage.seed, Compute(), Pieces(None))
    assert torch.equal(found, torch.where(HOLES, drawn, IMAGES))
    assert not torch.equal(found, fill_by_training(stage_of(guidance_scale=1.0), model, X0, HOLES, ROWS))


def test_untrained_network_replaces_known_pixels_as_params_say():
    model = network("caption")
    found = fill_by_replacing(stage_of(), model, X0, HOLES, ROWS)
    how = HOW | {"n_steps": 5, "n_resamples": 2, "cond": ROWS}
    expected = inpaint(model, X0, HOLES, generator(stage_of().seed, "replace"), **how)
    assert alike(found, to_uint8(denormalize_img(expected)))
    assert torch.equal(found[~HOLES], IMAGES[~HOLES])
    for change in ({"replace_steps": 4}, {"n_resamples": 1}, {"guidance_scale": 1.0}, {"clip_sample": False}):
        assert not alike(found, fill_by_replacing(stage_of(**change), model, X0, HOLES, ROWS)), change


def test_network_trained_to_inpaint_samples_with_all_options():
    model, captions = network("inpainting"), ["a bag", "a pale boot", "trousers"]
    options = HOW | {"spacing": "karras", "clip_sample": 0.5}
    found = inpaint(model, X0, HOLES, generator(0, "inpaint"), captions=captions, batch_size=2, **options)

    def drawn(**changes):
        stream = generator(0, "inpaint")
        noise_seeds(3, stream)  # `inpaint` draws seeds for the conditioning first
        around = model.conditioning.around(ROWS, IMAGES, HOLES)
        how = {"cond": around, "variance": "fixed_small", "generator": stream} | options | changes
        return torch.where(HOLES, sample(model, 3, **how), X0)

    torch.testing.assert_close(found, drawn(), rtol=0, atol=1e-4)
    others = {"n_steps": 5, "spacing": "even", "guidance_scale": 1.0, "clip_sample": True, "variance": "fixed_large"}
    for name, value in others.items():  # each option has an effect
        assert (found - drawn(**{name: value})).abs().max() > 1e-3, name
