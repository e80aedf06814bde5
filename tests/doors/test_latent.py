"""Rules of the latent door: between its sections, and between it and the main pipeline's data."""

from contextlib import chdir
from copy import deepcopy
from functools import reduce
from operator import getitem

import pytest
from project import REPO

from ddpm.check import checked_params
from ddpm.doors.latent import RULES
from ddpm.errors import UserError
from ddpm.run.dvc import declared_stages
from ddpm.run.yaml import load_yaml

DOOR = REPO / "doors/latent"
VALUES = load_yaml(DOOR / "params.yaml")
PIXELS = {"train_autoencoder.factor": 1, "train_autoencoder.bottleneck": "none"}


@pytest.fixture(scope="module")
def check():
    """All params of the door, with changes by dotted key."""
    with chdir(DOOR):
        stages = declared_stages()

        def checked(changes):
            values = deepcopy(VALUES)
            for key, value in changes.items():
                *path, last = key.split(".")
                reduce(getitem, path, values)[last] = value
            return checked_params(stages, values, RULES)

        yield checked


@pytest.mark.parametrize(
    ("allowed", "refused", "message"),
    [
        (
            {"train_autoencoder.factor": 8},
            {"train_autoencoder.channels": 24},
            "train_autoencoder: channels is 24; it must be a multiple of twice groups, 16",
        ),
        (
            {
                "train_autoencoder.factor": 1,
                "train_autoencoder.bottleneck": "none",
                "train_autoencoder.latent_channels": 1,
            },
            {"train_autoencoder.factor": 1, "train_autoencoder.bottleneck": "none"},
            "train_autoencoder: latent_channels is 4; with factor 1",
        ),
        (
            {"train_autoencoder.factor": 8, "train_latent.unet.dim_mults": [1, 2, 4]},
            {"train_autoencoder.factor": 8, "train_latent.unet.dim_mults": [1, 2, 4, 8, 8]},
            "train_latent: image size is 4x4; patch_size 1 and 5 dim_mults need heights and widths of at least 8",
        ),
        ({}, {"train_latent.flip": True}, "train_latent.flip is true; latents are not images, so it must be false"),
        ({}, {"train_latent.max_shift": 1}, "train_latent.max_shift is 1; latents are not images, so it must be 0"),
        (
            {},
            {"train_latent.unet.learn_variance": True},
            "train_latent.unet.learn_variance is true; latents are not images, so it must be false",
        ),
        (
            {},
            {"sample_latent.clip_sample": True},
            "sample_latent.clip_sample is true; latents are not images, so it must be false",
        ),
        (
            {"train_latent.weighting": "min_snr"},
            {"train_latent.weighting": "bound"},
            "train_latent.weighting is bound; it assumes pixels, so it must be simple, x0 or min_snr",
        ),
        (
            {"sample_latent.n_steps": 200},
            {"sample_latent.n_steps": 201},
            "sample_latent.n_steps is 201; train_latent.max_steps is 200, so sampler ancestral takes 1 to 200",
        ),
        (
            {"train_latent.conditioning": "labels"},
            {"train_latent.conditioning": None, "sample_latent.guidance_scale": 1.0},
            "train_latent.conditioning is null; it must be one that takes only captions or classes",
        ),
        (
            {"train_latent.caption.dropout": 0.0, "guide.grid.scales": [1.0], "sample_latent.guidance_scale": 1.0},
            {"train_latent.caption.dropout": 0.0, "sample_latent.guidance_scale": 1.0},
            "guide.grid.scales is 8; train_latent.caption.dropout is 0, so it must be 1",
        ),
        (
            {"guide.n_steps": 200},
            {"guide.n_steps": 201},
            "guide.n_steps is 201; train_latent.max_steps is 200, so sampler unipc takes 3 to 200",
        ),
        (
            {},
            {"guide.clip_sample": True},
            "guide.clip_sample is true; latents are not images, so it must be false",
        ),
        (
            {"sample_latent.n_samples": 5000},
            {"sample_latent.n_samples": 5001},
            "sample_latent.n_samples is 5001; it cannot exceed data.n_held_out of the main pipeline, 5000",
        ),
        (
            {"evaluate.n_samples": 1024},
            {"evaluate.n_samples": 1025},
            "evaluate.n_samples is 1025; it cannot exceed sample_latent.n_samples, 1024",
        ),
        (
            {"sample_latent.n_samples": 24},
            {"sample_latent.n_samples": 23},
            "sample_latent.n_samples is 23; as many samples are evaluated, so it must be at least 24",
        ),
    ],
)
def test_limits_are_allowed_and_violations_rejected_in_one_line(allowed, refused, message, check):
    check(allowed)
    with pytest.raises(UserError) as caught:
        check(refused)
    [line] = str(caught.value).splitlines()
    assert line.startswith(f"doors/latent/params.yaml: {message}")
