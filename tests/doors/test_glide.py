"""Rules between sections of door glide's params: each mistake is reported before any work."""

from contextlib import chdir

import pytest
from project import REPO

from ddpm.check import checked_params
from ddpm.doors.glide import RULES
from ddpm.errors import UserError
from ddpm.recipes import merged
from ddpm.run.dvc import declared_stages
from ddpm.run.yaml import load_yaml


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_inpaint": {"conditioning": "caption"}},
            r"train_inpaint\.conditioning is caption; it must provide a caption and a hole",
        ),
        (
            {"train_base": {"conditioning": None}},
            r"train_base\.conditioning is null; it must provide a caption",
        ),
        ({"train_inpaint": {"inpainting": {"width": 32}}}, r"inpainting\.width is 32; in train_base it is 64"),
        ({"train_inpaint": {"unet": {"channels": 32}}}, r"train_inpaint\.unet differs from train_base\.unet"),
        ({"train_clip": {"max_steps": 10}}, r"train_clip\.max_steps is 10; train_base\.max_steps is 200"),
        ({"train_clip": {"channels": 9}}, "train_clip: channels is 9; it must be a multiple of groups, 8"),
        ({"train_base": {"caption": {"dropout": 0.0}}}, r"sweep\.scales is 5; train_base\.caption\.dropout is 0"),
        (
            {"train_base": {"caption": {"dropout": 0.0}}},
            r"sample\.grid\.scales is 8; train_base\.caption\.dropout is 0",
        ),
        (
            {"train_inpaint": {"inpainting": {"dropout": 0.0}}},
            r"inpaint\.guidance_scale is 2; train_inpaint\.inpainting\.dropout is 0",
        ),
        (
            {"sample": {"n_steps": 300}},
            r"sample\.n_steps is 300; train_base\.max_steps is 200, so sampler ancestral takes 1 to 200",
        ),
        ({"inpaint": {"replace_steps": 300}}, r"inpaint\.replace_steps is 300; train_base\.max_steps is 200"),
    ],
)
def test_inconsistent_sections_are_rejected(changes, message):
    with chdir(REPO / "doors/glide"):
        stages, values = declared_stages(), load_yaml(REPO / "doors/glide/params.yaml")
        checked_params(stages, values, RULES)
        with pytest.raises(UserError, match=message):
            checked_params(stages, merged(values, changes), RULES)
