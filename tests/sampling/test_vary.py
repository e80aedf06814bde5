"""Variations, interpolation and text differences: edited embeddings, and the noise of the images."""

from math import cos, pi, sin

import pytest
import torch
from pydantic import ValidationError

from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.run.compute import Compute
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import derive_seed, global_stream
from ddpm.run.stage import StageRun
from ddpm.run.tracking.record import Run
from ddpm.sampling.given import draw_given
from ddpm.sampling.vary import Edit, Varied, Vary, edited

SIZE = 2
DRAWING = {
    "guidance_scale": 2.0,
    "batch_size": 4,
    "sampler": "ddim",
    "n_steps": 4,
    "spacing": "even",
    "clip_sample": True,
}
PARAMS = DRAWING | {"n_images": 4, "n_each": 3, "n_pairs": 2, "n_between": 5}
EDIT = DRAWING | {"n_images": 4, "differences": [("dark", "light")], "shares": [0.0, 0.5]}


def at(*angles):
    return torch.tensor([[2**0.5 * cos(angle), 2**0.5 * sin(angle)] for angle in angles])


def test_edit_moves_along_arc_towards_text_difference():
    before, after = at(0.2), at(1.4)
    goal = 0.8 + pi / 2  # a chord of a circle is orthogonal to the direction of its midpoint
    for share in (0.0, 0.25, 1.0):
        expected = at(0.3 + share * (goal - 0.3))
        torch.testing.assert_close(edited(at(0.3), before, after, share), expected)


@pytest.fixture(scope="module")
def model():
    with global_stream(0, "init"):
        options = {"size": SIZE, "width": 8, "layers": 1, "heads": 2, "dropout": 0.1, "caption_dropout": 0.5}
        conditioning = {"name": "embedding", **options}
        config = UnetConfig((1, 4, 4), 8, (1,), 2, 10, heads=2, conditioning=conditioning, n_classes=10)
        model = Unet(config).eval()
    model.noise_schedule, model.prediction = NoiseSchedule(10), "x0"
    with torch.no_grad():  # at initialisation the head is too weak to show conditioning
        model.conv_out.weight.mul_(3)
    return model


VARY = StageRun("vary", Vary(**PARAMS), 4, Compute(), Run())
EDITS = StageRun("edit", Edit(**EDIT), 4, Compute(), Run())


def drawn_as(stage, model, embeddings, name):
    """The decoder's images of the embeddings, with the noise that the stage derives from `name`."""
    cond, seed = model.conditioning.of_embeddings(embeddings), derive_seed(stage.seed, name)
    return draw_given(model, cond, 2.0, stage.params, seed, Compute(), Pieces(None))


def test_each_variation_has_its_own_noise(model):
    drawn = Varied(VARY, model).variations(at(0.0, 0.0, 2.0))
    assert drawn.shape == (3, 3, 1, 4, 4)
    expected = drawn_as(VARY, model, at(0.0, 0.0, 2.0).repeat_interleave(3, dim=0), "variations")
    assert torch.equal(drawn.flatten(0, 1), expected)
    assert len(drawn.flatten(0, 1).unique(dim=0)) == 9


def test_interpolation_follows_the_arc_with_shared_noise(model):
    drawn = Varied(VARY, model).between(at(0.0, 1.0), at(2.0, 1.0))
    assert drawn.shape == (2, 5, 1, 4, 4)
    assert len(drawn[0].unique(dim=0)) == 5
    assert len(drawn[1].unique(dim=0)) == 1  # from an image to itself: only the noise could differ
    expected = [drawn_as(VARY, model, at(angle, 1.0), "between") for angle in (0.0, 0.5, 1.0, 1.5, 2.0)]
    assert (drawn.int() - torch.stack(expected, dim=1).int()).abs().max() <= 1  # the arc rounds differently


def test_edit_with_share_0_is_the_image_itself(model):
    images, before, after = at(0.3, 2.0), at(0.2, 0.2), at(1.4, 1.4)
    drawn = Varied(EDITS, model).edits("dark to light", images, before, after)
    assert drawn.shape == (2, 2, 1, 4, 4)
    back = Varied(EDITS, model).edits("dark to light", images, after, before)
    assert torch.equal(drawn[:, 0], drawn_as(EDITS, model, images, "dark to light"))
    assert torch.equal(drawn[:, 0], back[:, 0])
    assert not torch.equal(drawn[:, 0], drawn[:, 1])
    assert not torch.equal(drawn[:, 1], back[:, 1])


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        (
            Edit,
            {"differences": [("dark", "wide")]},
            "dark and wide are not the two values of an attribute",
        ),
        (Edit, {"differences": [("dark", "dark")]}, "dark and dark are not the two values"),
        (Edit, {"shares": [0.0, 1.5]}, "less than or equal to 1"),
        (Vary, {"n_pairs": 3}, "n_pairs is 3; it cannot exceed half of n_images, 2"),
    ],
)
def test_vary_and_edit_reject_invalid_params(section, changes, message):
    with pytest.raises(ValidationError, match=message):
        section(**(PARAMS if section is Vary else EDIT) | changes)
