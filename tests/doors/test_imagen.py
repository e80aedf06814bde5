"""Rules between sections of doors/imagen/params.yaml: a value that breaks one is rejected with the reason."""

from contextlib import chdir
from copy import deepcopy

import pytest
from project import REPO

from ddpm.check import checked_params
from ddpm.doors.imagen import RULES
from ddpm.errors import UserError
from ddpm.run.dvc import declared_stages
from ddpm.run.params import flatten
from ddpm.run.yaml import load_yaml

DOOR = REPO / "doors/imagen"
SINGLE = {"shrink.factor": 1, "train_super.low_resolution.factor": 1}


@pytest.fixture(scope="module", autouse=True)
def folder():
    with chdir(DOOR):
        yield


@pytest.fixture(scope="module")
def stages(folder):  # noqa: ARG001, sets the working folder
    return declared_stages()


def check(stages, changes):
    """Check the door's params with values set by dotted key."""
    values = deepcopy(load_yaml(DOOR / "params.yaml"))
    for key, value in changes.items():
        *sections, last = key.split(".")
        node = values
        for section in sections:
            node = node[section]
        node[last] = value
    return checked_params(stages, values, RULES)


@pytest.mark.parametrize(
    ("changes", "allowed", "refused", "message"),
    [
        (
            SINGLE,
            {"evaluate.of": "base"},
            {"shrink.factor": 2},
            "train_super.low_resolution.factor is 1; it must be shrink",
        ),
        (
            {"train_super.low_resolution.factor": 4},
            {"shrink.factor": 4},
            {"shrink.factor": 3, "train_super.low_resolution.factor": 3},
            "train_super: factor is 3; it must divide the images' height and width, 28 and 28",
        ),
        ({}, {}, {"evaluate.of": "base"}, "evaluate.of is base; its samples are 2 times smaller"),
        ({}, {}, {"train_super.conditioning": None}, "train_super.conditioning is null; it must be low_resolution"),
        (
            {},
            {"train_base.conditioning": "labels"},
            {"train_base.conditioning": None},
            "train_base.conditioning is null; it must be one that takes only captions or classes",
        ),
        ({}, {}, {"train_base.conditioning": "low_resolution"}, "it must be one that takes only captions or classes"),
        ({}, {}, {"train_base.unet.channels": 63}, "train_base: channels is 63; it must be a multiple of groups, 8"),
        ({}, {}, {"train_text.width": 32}, "train_base.frozen_caption.width is 64; it must be train_text.width, 32"),
        (
            {"train_base.conditioning": "bag_of_words"},
            {"train_text.width": 32},
            {"train_text.heads": 3},
            "multiple of heads",
        ),
        ({}, {"sample_base.n_steps": 200}, {"sample_base.n_steps": 201}, "takes 1 to 200"),
        (
            {"guide.sampler": "unipc"},
            {"guide.n_steps": 3},
            {"guide.n_steps": 201},
            "guide.n_steps is 201; train_base.max_steps is 200",
        ),
        ({}, {"sample_base.guidance_scale": 100.0}, {"sample_base.guidance_scale": 101.0}, "guidance_scale is 101.0"),
        ({}, {}, {"sample_base.guidance_scale": 0.5}, "sample_base.guidance_scale is 0.5"),
        ({}, {}, {"sample_super.guidance_scale": 2.0}, "train_super.low_resolution.dropout is 0, so it must be 1"),
        (
            {"train_base.frozen_caption.dropout": 0.0, "sample_base.guidance_scale": 1.0},
            {"guide.guidance_scales": [1.0]},
            {},
            "guide.guidance_scales is 10; train_base.frozen_caption.dropout is 0, so it must be 1",
        ),
        ({}, {"sample_super.level": 1.0}, {"sample_super.level": 1.1}, "sample_super.level is 1.1"),
        ({}, {}, {"train_super.low_resolution.max_level": 1.5}, "train_super.low_resolution.max_level is 1.5"),
        (
            {},
            {},
            {"train_super.flip": True},
            "train_super.flip is True; the low-resolution image is not changed",
        ),
        (
            {},
            {},
            {"train_super.max_shift": 2},
            "train_super.max_shift is 2; the low-resolution image is not changed",
        ),
        ({}, {"prompt.n_seen": 5000}, {"prompt.n_seen": 5001}, "prompt.n_seen is 5001"),
        (
            {},
            {"sample_base.n_samples": 768},
            {"sample_base.n_samples": 769},
            "it cannot exceed prompt.n_seen + prompt.n_withheld, 768",
        ),
        (
            {},
            {},
            {"sample_super.n_samples": 769},
            "sample_super.n_samples is 769; it cannot exceed sample_base.n_samples, 768",
        ),
        ({}, {"evaluate.n_samples": 768}, {"evaluate.n_samples": 769}, "it cannot exceed sample_super.n_samples, 768"),
        ({}, {}, {"guide.captions": ["a dark"]}, "names no item"),
    ],
)
def test_limits_are_allowed_and_violations_rejected(stages, changes, allowed, refused, message):
    check(stages, changes | allowed)
    with pytest.raises(UserError) as error:
        check(stages, changes | refused)
    lines = str(error.value).splitlines()
    assert all(line.startswith("doors/imagen/params.yaml: ") for line in lines)
    assert [message in line for line in lines].count(True) == 1


@pytest.mark.parametrize("variant", load_yaml(DOOR / "claims.yaml")["variants"])
def test_every_claims_variant_is_valid(stages, variant):
    check(stages, dict(flatten(load_yaml(DOOR / "claims.yaml")["variants"][variant])))
