"""Dynamic thresholding: by hand, and against diffusers."""

import pytest
import torch
from diffusers import DDIMScheduler
from pydantic import TypeAdapter, ValidationError

from ddpm.run.seeding import generator
from ddpm.sampling.clipping import ClipSample, check_clip_sample, clipped, in_words

REFUSED = [0.0, 1.0, -0.5, 1.5, float("nan")]


def wild(n=5):
    return 3 * torch.randn(n, 3, 8, 8, generator=generator(0, "wild"))


def test_dynamic_thresholding_matches_hand_computed_values():
    # The 3/4-quantile of 0, 1, 2, 3, 4 is the fourth of them, 3: clip to [-3, 3] and divide by 3.
    x0 = torch.tensor([0.0, -1.0, 2.0, -3.0, 4.0]).reshape(1, 1, 1, 5)
    assert clipped(x0, 0.75).flatten().tolist() == pytest.approx([0, -1 / 3, 2 / 3, -1, 1])
    # Halfway between the third and the fourth, 2.5, at 5/8.
    assert clipped(x0, 0.625).flatten().tolist() == pytest.approx([0, -0.4, 0.8, -1, 1])


def test_dynamic_thresholding_never_scales_up():
    x0 = wild(2).clamp(-1, 1)
    assert torch.equal(clipped(x0, 0.9), x0)
    # Its 0.5-quantile is below 1, which s never is: only the pixel out of range is clipped, the others are unchanged.
    x0 = torch.tensor([0.1, -0.2, 0.3, 5.0]).reshape(1, 1, 2, 2)
    assert torch.equal(clipped(x0, 0.5), x0.clamp(-1, 1))


def test_each_image_has_its_own_threshold():
    x0 = wild() * torch.tensor([0.1, 1.0, 2.0, 5.0, 50.0]).reshape(-1, 1, 1, 1)
    together, alone = clipped(x0, 0.95), torch.cat([clipped(image[None], 0.95) for image in x0])
    assert torch.equal(together, alone)
    assert together.abs().max() <= 1


@pytest.mark.parametrize("share", [0.5, 0.9, 0.995])
def test_dynamic_thresholding_matches_diffusers(share):
    # Without sample_max_value theirs limits s to 1, which is static clipping.
    theirs = DDIMScheduler(thresholding=True, dynamic_thresholding_ratio=share, sample_max_value=1e9)
    assert (clipped(wild(), share) - theirs._threshold_sample(wild())).abs().max() < 1e-6


def test_in_words_names_each_mode():
    assert [in_words(value) for value in (False, True, 0.995)] == ["none", "static", "dynamic, 0.995"]


def test_static_clipping_and_none():
    assert torch.equal(clipped(wild(), True), wild().clip(-1, 1))
    assert torch.equal(clipped(wild(), False), wild())


@pytest.mark.parametrize("value", REFUSED)
def test_check_clip_sample_rejects_invalid_values(value):
    with pytest.raises(ValueError, match=f"clip_sample is {value}; it must be false, true or a number between 0 and 1"):
        check_clip_sample(value)


@pytest.mark.parametrize("value", [*REFUSED, 0, 1, "true", "dynamic", None, [0.5]])
def test_params_reject_invalid_clip_sample(value):
    with pytest.raises(ValidationError, match="it must be false, true or a number between 0 and 1"):
        TypeAdapter(ClipSample).validate_python(value)


@pytest.mark.parametrize("value", [False, True, 0.5, 0.995])
def test_params_keep_valid_clip_sample(value):
    assert TypeAdapter(ClipSample).validate_python(value) is value
