"""Conditioning from training to sampling: samples are of the class that was asked for, and guidance exaggerates it."""

import pytest
import torch

from ddpm.conditioning.guidance import given
from ddpm.conditioning.kinds.labels import Labels
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


def small(n_classes=2):
    with global_stream(0, "init"):
        return Unet(
            UnetConfig(
                (1, 4, 4), 8, (1,), 2, 30, heads=2, conditioning={"name": "labels", "dropout": 0.0}, n_classes=n_classes
            )
        )


@pytest.fixture(scope="module")
def taught():
    """A network that was taught that class 0 is dark and class 1 is bright, its data, and what it is told of them."""
    labels = torch.randint(2, (160,), generator=generator(0, "labels"))
    images = (0.8 * (2.0 * labels - 1))[:, None, None, None].expand(-1, 1, 4, 4).contiguous()
    model = small()
    fit(model, Training(**COURSE_DEFAULTS | SETTINGS), Examples(images, labels), Examples(images[:9], labels[:9]))
    return model, images, labels


def last(model, first, count):
    *_, x = sample_steps(
        model, [generator(0, "x", first + i) for i in range(count)], options=AncestralOptions(variance="fixed_small")
    )
    return x


def test_samples_are_of_the_class_that_was_asked_for(taught):
    model, _, _ = taught
    labels = torch.arange(12) % 2
    images = last(given(model, labels), 0, 12)
    assert ((images.mean((1, 2, 3)) > 0).long() == labels).all()
    # The same noise, other labels.
    assert ((last(given(model, 1 - labels), 0, 12).mean((1, 2, 3)) > 0).long() == 1 - labels).all()


def test_a_sample_depends_on_its_own_label_and_noise_alone(taught):
    model, _, _ = taught
    labels = torch.arange(7) % 2
    together = last(given(model, labels), 0, 7)
    apart = [last(given(model, labels, slice(first, first + 3)), first, min(3, 7 - first)) for first in (0, 3, 6)]
    assert (together - torch.cat(apart)).abs().max() < 1e-5  # float32 sums in another order


def test_losses_are_those_of_the_labels_given(taught):
    model, images, labels = taught
    # More than one batch of the evaluation: its labels must keep step with its images.
    images, labels = images.repeat(4, 1, 1, 1), labels.repeat(4)
    right, wrong = (simple_loss(model, Examples(images, cond), 0) for cond in (labels, 1 - labels))
    assert right < wrong / 10
    right, wrong = (loss_by_timestep(model, Examples(images, cond), 20, 0) for cond in (labels, 1 - labels))
    assert right[-1] < wrong[-1] / 10  # where nothing of the image is left, only the label tells


def test_guidance_goes_on_from_what_is_said_untold_through_what_is_said_when_told():
    model, labels = small().eval(), torch.tensor([0, 1, 1])
    x, t = torch.randn(3, 1, 4, 4, generator=generator(0, "x")), torch.tensor([3, 20, 30])
    told, untold = given(model, labels)(x, t), model(x, t, torch.full((3,), 2))
    assert (told - untold).abs().max() > 1e-3
    for scale in (1.0, 1.5, 3.0):
        found = given(model, labels, guidance_scale=scale)(x, t)
        assert (found - ((1 - scale) * untold + scale * told)).abs().max() < 1e-5  # float32, values of order 1


def test_no_label_stands_for_the_null_class():
    model = small()
    cond = torch.tensor([0, 1, 1])
    assert model.conditioning.null(cond).tolist() == [2, 2, 2]
    assert model.conditioning.encode(torch.zeros(3, 1, 4, 4), cond.to(torch.uint8)).tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match="conditioning is labels; this data set has none"):
        model.conditioning.encode(torch.zeros(3, 1, 4, 4), None)


def test_a_share_of_the_labels_is_dropped_in_training():
    labels = torch.arange(3000) % 3
    conditioning = Labels((1, 4, 4), 3, 8, dropout=0.25).train()
    with global_stream(0, "dropout"):
        found = conditioning.dropped(labels)
    dropped = found == 3
    assert abs(dropped.double().mean() - 0.25) < 0.04  # five standard errors of a share of 3000
    assert torch.equal(found[~dropped], labels[~dropped])
    assert torch.equal(conditioning.eval().dropped(labels), labels)


def test_new_images_have_the_classes_in_turn():
    assert Labels((1, 4, 4), 3, 8, dropout=0.1).draw(0, [0, 1, 2, 3, 7]).tolist() == [0, 1, 2, 0, 1]


def test_a_mixture_has_the_class_of_the_larger_share():
    conditioning = Labels((1, 4, 4), 9, 8, dropout=0.1)
    mixed = conditioning.mix(torch.tensor([4]), torch.tensor([7]), torch.tensor([0.0, 0.4, 0.5, 0.6, 1.0]))
    assert mixed.tolist() == [4, 4, 4, 7, 7]
