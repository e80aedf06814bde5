"""Rules across sections of doors/glide/params.yaml, which the door's stage check applies."""

from collections.abc import Iterator
from typing import Any

from ddpm.doors.main_pipeline import main_data
from ddpm.doors.shared_rules import kind
from ddpm.rules import guidance_fits, steps_fit

SEES_HOLES = {"train_base": False, "train_inpaint": True}
DRAWN = {"sample": "train_base", "sweep": "train_base", "inpaint": "train_inpaint"}  # section: the model's stage


def networks_can_be_built(params: Any) -> Iterator[str]:
    """Image size, levels, groups, heads, captions and text encoder are compatible."""
    source = main_data().source
    for stage, sees_holes in SEES_HOLES.items():
        training = getattr(params, stage)
        chosen = kind(training)
        if not chosen or chosen.data_set is None or chosen.gives_mask != sees_holes:
            what = "a caption and a hole" if sees_holes else "a caption"
            yield f"{stage}.conditioning is {training.conditioning or 'null'}; it must provide {what}"
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
    """The fine-tuned network and CLIP have the base model's timesteps, and the network has its architecture."""
    for stage in ("train_inpaint", "train_clip"):
        for key in ("max_steps", "schedule"):
            own, base = getattr(getattr(params, stage), key), getattr(params.train_base, key)
            if own != base:
                yield f"{stage}.{key} is {own}; train_base.{key} is {base}, and they must be equal"
    if not all(getattr(params, stage).conditioning for stage in SEES_HOLES):
        return
    if params.train_base.options("network") != params.train_inpaint.options("network"):
        yield "train_inpaint.unet differs from train_base.unet; it starts from its weights, so they must be equal"
    base, inpaint = (vars(getattr(params, stage).options("conditioning")) for stage in SEES_HOLES)
    for key in base.keys() & inpaint.keys() - {"dropout"}:
        if base[key] != inpaint[key]:
            own = f"train_inpaint.{params.train_inpaint.conditioning}.{key}"
            yield f"{own} is {inpaint[key]}; in train_base it is {base[key]}, and they must be equal"


def sampling_is_trained(params: Any) -> Iterator[str]:
    """Steps and guidance of sampling fit the training of the networks."""
    for sample, train in DRAWN.items():
        yield from steps_fit(params, sample, train)
    if params.inpaint.replace_steps > (most := params.train_base.max_steps):
        yield f"inpaint.replace_steps is {params.inpaint.replace_steps}; train_base.max_steps is {most}"
    scales = {
        "sample.guidance_scale": params.sample.guidance_scale,
        "sample.grid.scales": max(params.sample.grid.scales),
        "sweep.scales": max(params.sweep.scales),
        "inpaint.guidance_scale": params.inpaint.guidance_scale,
    }
    for key, scale in scales.items():
        yield from guidance_fits(scale, key, params, DRAWN[key.partition(".")[0]])


RULES = networks_can_be_built, models_fit_each_other, sampling_is_trained
