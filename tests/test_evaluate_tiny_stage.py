"""Stage evaluate_tiny: the tiny model's excess as a loss of the noise, whatever the model predicts."""

import runpy

import pytest
import torch
from project import REPO

from ddpm.data.gradients import gradient_images
from ddpm.diffusion.posterior import eps_error, to_eps
from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.images import normalize_img
from ddpm.networks.model import DiffusionModel
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.run.seeding import generator, global_stream
from ddpm.training.evaluate import loss_by_timestep

STAGE = runpy.run_path(str(REPO / "stages/evaluate_tiny.py"))


class Noise(DiffusionModel):
    """What another model's predictions say of the noise."""

    def __init__(self, model):
        super().__init__()
        self.model, self.img_shape, self.noise_schedule = model, model.img_shape, model.noise_schedule

    def forward(self, images, num_steps):
        said = self.model(images, num_steps)
        return to_eps(self.model.prediction, said, images, num_steps, self.noise_schedule)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_eps_error_turns_a_loss_into_that_of_the_noise(prediction):
    schedule = NoiseSchedule(20, betas=cosine_schedule(20))
    images = normalize_img(gradient_images(50, (3, 4, 5), generator(0, "images")))
    with global_stream(0, "init"):
        model = TinyDiffuser(TinyDiffuserConfig((3, 4, 5), 8, 20))
    model.noise_schedule, model.prediction = schedule, prediction
    own, of_noise = (loss_by_timestep(which, images, schedule, 50, 0) for which in (model, Noise(model)))
    weights = eps_error(prediction, torch.arange(1, 21), schedule).flatten().tolist()
    weighted = torch.tensor([weight * loss for weight, loss in zip(weights, own, strict=True)])
    assert (weighted / torch.tensor(of_noise) - 1).abs().max() < 1e-3  # float32 near t = 1, where the weight is 1,000
    found = STAGE["excess"](own, [0.5 * loss for loss in own], weights)
    assert found["excess_noise_loss_relative"] == pytest.approx(1)
    assert found["noise_loss"] == pytest.approx(sum(of_noise) / 20, rel=1e-3)
