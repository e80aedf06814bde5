"""Stage check: all of params.yaml, before any work, and which code and which named files decide a stage's result."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ddpm.check import check_stage
from ddpm.data.dataset import Data
from ddpm.run.dvc import CHECK
from ddpm.run.params import load_params
from ddpm.run.stage import run
from ddpm.sampling.sampler import SAMPLERS

MAIN = "../../params.yaml"
KINDS = {"train_base": "caption", "train_inpaint": "inpainting"}
DRAWN = {"sample": "train_base", "sweep": "train_base", "inpaint": "train_inpaint"}  # by the model of which stage


def networks_can_be_built(params: Any) -> Iterator[str]:
    """Image size, levels, groups, heads, captions and text encoder go together."""
    source = load_params({"data": Data}, Path(MAIN)).data.source
    for stage, kind in KINDS.items():
        training = getattr(params, stage)
        if training.conditioning != kind or training.network != "unet":
            yield f"{stage}.conditioning is {training.conditioning}; with network unet it must be {kind}"
            continue
        try:
            training.config(source.img_shape, len(source.class_names))
        except ValueError as error:
            yield f"{stage}: {error}"
    try:
        params.train_clip.config(source.img_shape)
    except ValueError as error:
        yield f"train_clip: {error}"


def models_fit_each_other(params: Any) -> Iterator[str]:
    """The fine-tuned network and the CLIP know the base model's timesteps, and the network has its shape."""
    for stage in ("train_inpaint", "train_clip"):
        for key in ("max_steps", "schedule"):
            own, base = getattr(getattr(params, stage), key), getattr(params.train_base, key)
            if own != base:
                yield f"{stage}.{key} is {own}; train_base.{key} is {base}, and they must be equal"
    if params.train_base.options("network") != params.train_inpaint.options("network"):
        yield "train_inpaint.unet is another than train_base.unet; it goes on from its weights, so they must be equal"
    base, inpaint = (getattr(params, stage).options("conditioning") for stage in KINDS)
    for key in ("width", "layers", "heads"):
        if getattr(base, key) != getattr(inpaint, key):
            yield f"train_inpaint.inpainting.{key} is {getattr(inpaint, key)}; it must be that of train_base.caption"


def samplers_have_steps(params: Any) -> Iterator[str]:
    """A sampler takes at most as many steps as its model was trained on, and at least as many as its order."""
    for stage, trained in DRAWN.items():
        own, most = getattr(params, stage), getattr(params, trained).max_steps
        least = SAMPLERS[own.sampler].min_steps
        if not least <= (own.n_steps or most) <= most:
            yield f"{stage}.n_steps is {own.n_steps}; with {trained}.max_steps it must be {least} to {most}"
    if params.inpaint.replace_steps > params.train_base.max_steps:
        most = params.train_base.max_steps
        yield f"inpaint.replace_steps is {params.inpaint.replace_steps}; train_base.max_steps is {most}"


def guidance_has_both_sides(params: Any) -> Iterator[str]:
    """Guidance needs a network that was trained with its captions and, in a share of the images, without them."""
    scales = {
        "sample.guidance_scale": params.sample.guidance_scale,
        "sample.grid.scales": max(params.sample.grid.scales),
        "sweep.scales": max(params.sweep.scales),
        "inpaint.guidance_scale": params.inpaint.guidance_scale,
    }
    for key, scale in scales.items():
        stage = DRAWN[key.partition(".")[0]]
        if scale > 1 and not getattr(params, stage).options("conditioning").dropout:
            yield f"{key} is {scale:g}; {stage}.{KINDS[stage]}.dropout is 0, so it must be 1"


RULES = [networks_can_be_built, models_fit_each_other, samplers_have_steps, guidance_has_both_sides]
STAGES = {CHECK: check_stage(RULES, [MAIN])}

if __name__ == "__main__":
    run(STAGES)
