"""Rules between sections of door dalle2's params: each mistake is reported before any work."""

from contextlib import chdir

import pytest
from project import REPO

from ddpm.check import checked_params
from ddpm.doors.dalle2 import RULES
from ddpm.errors import UserError
from ddpm.recipes import merged
from ddpm.run.dvc import declared_stages
from ddpm.run.yaml import load_yaml

DOOR = REPO / "doors/dalle2"
ALONE = {"train_decoder": {"conditioning": "caption"}, "sample": {"signal": "none"}, "sweep": {"signals": ["none"]}}


@pytest.fixture(scope="module")
def check():
    """All params of the door, with changes."""
    with chdir(DOOR):
        stages, values = declared_stages(), load_yaml(DOOR / "params.yaml")
        yield lambda changes: checked_params(stages, merged(values, changes), RULES)


@pytest.mark.parametrize(
    ("allowed", "refused", "message"),
    [
        (
            {},
            {"train_prior": {"conditioning": "caption"}},
            "train_prior.conditioning is caption; it must be clip_caption",
        ),
        (
            ALONE,
            {
                "train_decoder": {"conditioning": "inpainting"},
                "sample": {"signal": "none"},
                "sweep": {"signals": ["none"]},
            },
            "train_decoder.conditioning is inpainting; it must be embedding, or one of captions only",
        ),
        (
            {},
            {"train_prior": {"network": "unet", "unet": {"channels": 8, "dim_mults": [1, 2, 2]}}},
            "train_prior: image size is 1x1",
        ),
        (
            {},
            {"train_decoder": {"network": "prior"}},
            r"train_decoder: img_shape is \(1, 28, 28\); network prior takes",
        ),
        ({}, {"train_prior": {"prior": {"heads": 3}}}, "train_prior: width is 128; it must be a multiple of heads, 3"),
        (
            {
                "train_clip": {"size": 32},
                "train_prior": {"clip_caption": {"size": 32}},
                "train_decoder": {"embedding": {"size": 32}},
            },
            {"train_clip": {"size": 32}, "train_prior": {"clip_caption": {"size": 32}}},
            "train_decoder.embedding.size is 64; it must be train_clip.size, 32",
        ),
        (
            {},
            {"train_prior": {"clip_caption": {"layers": 3}}},
            "train_prior.clip_caption.layers is 3; it must be train_clip.layers, 2",
        ),
        ({}, {"train_clip": {"channels": 9}}, "train_clip: channels is 9; it must be a multiple of groups, 8"),
        (
            {},
            {"train_prior": {"flip": True}},
            "train_prior.flip is true; embeddings are not images, so it must be false",
        ),
        (
            {},
            {"train_prior": {"max_shift": 1}},
            "train_prior.max_shift is 1; embeddings are not images, so it must be 0",
        ),
        (
            {},
            {"sample_prior": {"clip_sample": True}},
            "sample_prior.clip_sample is true; embeddings are not images, so it must be false",
        ),
        ({}, {"train_prior": {"weighting": "bound"}}, "train_prior.weighting is bound; it assumes pixels"),
        (
            ALONE,
            {"train_decoder": {"conditioning": "caption"}, "sweep": {"signals": ["none"]}},
            "sample.signal is prior; train_decoder.conditioning is caption, so it must be none",
        ),
        (
            ALONE,
            {"train_decoder": {"conditioning": "caption"}, "sample": {"signal": "none"}},
            "sweep.signals is prior, none; train_decoder.conditioning is caption, so it must be none",
        ),
        (
            {"sample_prior": {"n_steps": 200}},
            {"sample_prior": {"n_steps": 201}},
            "sample_prior.n_steps is 201; train_prior.max_steps is 200",
        ),
        ({"edit": {"n_steps": 200}}, {"edit": {"n_steps": 201}}, "edit.n_steps is 201; train_decoder.max_steps is 200"),
        ({"vary": {"n_steps": 200}}, {"vary": {"n_steps": 201}}, "vary.n_steps is 201; train_decoder.max_steps is 200"),
        (
            {"sweep": {"n_steps": 2}},
            {"sweep": {"n_steps": 1}},
            "sweep.n_steps is 1; train_decoder.max_steps is 200, so sampler dpmpp_2m takes 2 to 200",
        ),
        (
            {},
            {"train_decoder": {"embedding": {"caption_dropout": 0.0}}},
            "train_decoder.embedding.caption_dropout is 0.0; .* greater than 0",
        ),
        (
            {},
            {
                "train_decoder": {"embedding": {"dropout": 0.0}},
                "sample": {"guidance_scale": 1.0, "scales": [1.0]},
                "vary": {"guidance_scale": 1.0},
                "edit": {"guidance_scale": 1.0},
            },
            "sweep.scales is 5; train_decoder.embedding.dropout is 0, so it must be 1",
        ),
        ({"sweep": {"n_samples": 512}}, {"sweep": {"n_samples": 513}}, "sweep.n_samples is 513; it cannot exceed"),
        (
            {"evaluate": {"n_samples": 512}},
            {"evaluate": {"n_samples": 513}},
            "evaluate.n_samples is 513; it cannot exceed sample_prior.n_seen, 512",
        ),
        ({"sample": {"guidance_scale": 100.0}}, {"sample": {"guidance_scale": 0.5}}, "sample.guidance_scale is 0.5"),
        ({}, {"sample_prior": {"captions": ["a drees"]}}, "unknown word 'drees'; the nearest known words are: dress"),
    ],
)
def test_limits_are_allowed_and_violations_rejected_in_one_line(allowed, refused, message, check):
    check(allowed)
    with pytest.raises(UserError, match=rf"^doors/dalle2/params\.yaml: .*{message}") as caught:
        check(refused)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("variant", load_yaml(DOOR / "claims.yaml")["variants"])
def test_every_claims_variant_is_valid(variant, check):
    check(load_yaml(DOOR / "claims.yaml")["variants"][variant])
