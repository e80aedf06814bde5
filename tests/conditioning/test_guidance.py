"""Conditional networks from training to sampling, and classifier-free guidance against its formula."""

import pytest
import torch
from torch import nn

from ddpm.conditioning.guidance import Guided, draw_cond, encode_cond, given
from ddpm.diffusion.model import DiffusionModel
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.run.seeding import generator, global_stream
from ddpm.sampling.chain import sample_steps
from ddpm.sampling.samplers.ancestral import AncestralOptions
from ddpm.training.course import COURSE_DEFAULTS
from ddpm.training.evaluate import loss_by_timestep, simple_loss
from ddpm.training.fit import fit
from ddpm.training.loop import Examples
from ddpm.training.params import Training

SETTINGS = {"max_steps": 30, "schedule": "cosine", "prediction": "x0", "lr": 0.01, "batch_size": 16, "epochs": 5}


def small(**changes):
    shape = {"channels": 8, "dim_mults": (1,), "groups": 2, "max_steps": 30, "heads": 2, "n_classes": 2}
    with global_stream(0, "init"):
        return Unet(UnetConfig((1, 4, 4), **{**shape, "conditioning": {"name": "labels", "dropout": 0.0}, **changes}))


@pytest.fixture(scope="module")
def trained():
    """A network trained on dark images of class 0 and bright images of class 1, with these images and labels."""
    labels = torch.randint(2, (160,), generator=generator(0, "labels"))
    images = (0.8 * (2.0 * labels - 1))[:, None, None, None].expand(-1, 1, 4, 4).contiguous()
    model = small()
    fit(model, Training(**COURSE_DEFAULTS | SETTINGS), Examples(images, labels), Examples(images[:9], labels[:9]))
    return model, images, labels


def last(model, first, count):
    streams = [generator(0, "x", first + i) for i in range(count)]
    *_, x = sample_steps(model, streams, options=AncestralOptions(variance="fixed_small"))
    return x


def test_samples_match_their_labels(trained):
    model, _, _ = trained
    labels = torch.arange(12) % 2
    assert ((last(given(model, labels), 0, 12).mean((1, 2, 3)) > 0).long() == labels).all()
    # The same noise with the other labels.
    assert ((last(given(model, 1 - labels), 0, 12).mean((1, 2, 3)) > 0).long() == 1 - labels).all()


def test_samples_do_not_depend_on_the_batch(trained):
    model, _, _ = trained
    labels = torch.arange(7) % 2
    together = last(given(model, labels), 0, 7)
    apart = [last(given(model, labels, slice(first, first + 3)), first, min(3, 7 - first)) for first in (0, 3, 6)]
    assert (together - torch.cat(apart)).abs().max() < 1e-5  # float32 sums in another order


def test_losses_use_the_given_labels(trained):
    model, images, labels = trained
    # More than one evaluation batch: labels must stay aligned with images.
    images, labels = images.repeat(4, 1, 1, 1), labels.repeat(4)
    right, wrong = (simple_loss(model, Examples(images, cond), 0) for cond in (labels, 1 - labels))
    assert right < wrong / 10
    right, wrong = (loss_by_timestep(model, Examples(images, cond), 20, 0) for cond in (labels, 1 - labels))
    assert right[-1] < wrong[-1] / 10  # at pure noise, only the label is informative


class Linear(DiffusionModel):
    """Predicts x + 10 t + cond, and the variance 7 + cond. The null cond is -100."""

    class Conditioning(nn.Module):
        def null(self, cond):
            return torch.full_like(cond, -100)

    def __init__(self):
        super().__init__()
        self.img_shape, self.noise_schedule, self.prediction = (1, 1, 1), NoiseSchedule(9), "v"
        self.conditioning, self.calls = self.Conditioning(), 0

    def forward(self, images, num_steps, cond):
        return self.with_variance(images, num_steps, cond)[0]

    def with_variance(self, images, num_steps, cond):
        self.calls += 1
        shown = cond.reshape(-1, 1, 1, 1)
        return images + 10 * num_steps.reshape(-1, 1, 1, 1) + shown, (7.0 + shown).expand_as(images)


@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 1.5, 3.0])
def test_guidance_extrapolates_from_null_to_conditional(guidance_scale):
    model, cond = Linear(), torch.tensor([2.0, 3.0])
    guided = given(model, cond, guidance_scale=guidance_scale)
    x, t = torch.tensor([0.5, 0.25]).reshape(2, 1, 1, 1), torch.tensor([4, 9])
    predicted, v = guided.with_variance(x, t)
    # (1 - s) (x + 10 t - 100) + s (x + 10 t + cond)
    expected = [40.5 - 100 + guidance_scale * 102, 90.25 - 100 + guidance_scale * 103]
    assert predicted.flatten().tolist() == pytest.approx(expected)
    assert v.flatten().tolist() == [9.0, 10.0]  # of the conditional prediction
    assert model.calls == (1 if guidance_scale == 1 else 2)  # without guidance, one evaluation
    assert torch.equal(guided(x, t), predicted)


def test_guidance_uses_the_null_conditioning_of_the_network():
    model, labels = small().eval(), torch.tensor([0, 1, 1])
    x, t = torch.randn(3, 1, 4, 4, generator=generator(0, "x")), torch.tensor([3, 20, 30])
    conditional, unconditional = given(model, labels)(x, t), model(x, t, torch.full((3,), 2))
    assert (conditional - unconditional).abs().max() > 1e-3
    for scale in (1.0, 1.5, 3.0):
        found = given(model, labels, guidance_scale=scale)(x, t)
        expected = (1 - scale) * unconditional + scale * conditional
        assert (found - expected).abs().max() < 1e-5  # float32, values of order 1


def test_guided_network_looks_unconditional():
    model = Linear()
    guided = given(model, torch.arange(5.0))
    assert isinstance(guided, Guided)
    assert (guided.img_shape, guided.prediction, guided.conditioning) == ((1, 1, 1), "v", None)
    assert guided.noise_schedule is model.noise_schedule


@pytest.mark.parametrize("chosen", [slice(1, 3), torch.tensor([1, 2])])
def test_given_selects_the_rows_of_the_batch(chosen):
    x, t = torch.zeros(2, 1, 1, 1), torch.tensor([1, 1])
    assert given(Linear(), torch.arange(5.0), chosen)(x, t).flatten().tolist() == [11, 12]


def test_conditioning_dropout_is_active_in_training_only():
    model = small(conditioning={"name": "labels", "dropout": 0.999})
    x, t = torch.randn(2, 1, 4, 4, generator=generator(0, "x")), torch.tensor([3, 20])
    conditional, null = (given(model, torch.tensor([label] * 2)) for label in (1, 2))
    with global_stream(0, "dropout"):
        assert torch.equal(conditional.train()(x, t), null.eval()(x, t))
    assert not torch.equal(conditional.eval()(x, t), null(x, t))


def test_unconditional_network_takes_no_cond():
    model = TinyDiffuser(TinyDiffuserConfig((1, 4, 4), 8, 30))
    assert given(model, None, guidance_scale=3.0) is model
    assert encode_cond(model, torch.zeros(2, 1, 4, 4), torch.tensor([0, 1])) is None
    assert draw_cond(model, 0, range(2)) is None


def test_encode_and_draw_cond_return_labels():
    model = small()
    assert encode_cond(model, torch.zeros(2, 1, 4, 4), torch.tensor([1, 0])).tolist() == [1, 0]
    assert draw_cond(model, 0, [0, 1, 5]).tolist() == [0, 1, 1]


@pytest.mark.parametrize("conditioning", [None, {"name": "labels", "dropout": 0.1}])
def test_given_passes_moves_with_and_without_cond(conditioning):
    model = small(conditioning=conditioning, tell_moves=True).eval()
    x, t = torch.randn(3, 1, 4, 4, generator=generator(0, "x")), torch.tensor([3, 9, 20])
    cond, moves = None if conditioning is None else torch.tensor([0, 1, 1]), torch.eye(3)
    cond_args = () if cond is None else (cond,)
    with torch.no_grad():
        expected = model.with_variance(x, t, *cond_args, moves=moves)[0]
        assert torch.equal(given(model, cond, moves=moves)(x, t), expected)
        assert not torch.equal(given(model, cond)(x, t), expected)
