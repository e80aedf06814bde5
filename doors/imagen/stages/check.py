"""Stage check: all of params.yaml, before any work, and which code and which named files decide a stage's result."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ddpm.check import check_stage
from ddpm.conditioning.text import TextShape
from ddpm.data.dataset import Data
from ddpm.data.pooling import pooled_shape
from ddpm.rules import conditioning_fits, sampling_fits
from ddpm.run.dvc import CHECK
from ddpm.run.params import load_params
from ddpm.run.stage import run
from ddpm.sampling.sampler import SAMPLERS

MAIN = "../../params.yaml"
TEXTUAL = "frozen_caption", "caption", "bag_of_words", "labels"


def main_data() -> Any:
    """Section `data` of the main pipeline, whose images this door reads."""
    return load_params({"data": Data}, Path(MAIN)).data


def networks_can_be_built(params: Any) -> Iterator[str]:
    """Image sizes, levels, groups, heads and conditioning go together, and one network begins where the other ends."""
    source = main_data().source
    factor, base, enlarging = params.shrink.factor, params.train_base, params.train_super
    if base.conditioning not in TEXTUAL:
        yield f"train_base.conditioning is {base.conditioning}; it must be one of {', '.join(TEXTUAL)}"
    if enlarging.conditioning != "low_resolution":
        yield f"train_super.conditioning is {enlarging.conditioning}; it must be low_resolution"
    elif (its := enlarging.options("conditioning").factor) != factor:
        yield f"train_super.low_resolution.factor is {its}; it must be shrink.factor, {factor}"
    if params.evaluate.of == "base" and factor != 1:
        yield f"evaluate.of is base; its samples are {factor} times smaller (shrink.factor), so it must be super"
    try:
        small = pooled_shape(source.img_shape, factor)
    except ValueError as error:
        yield f"shrink: {error}"
        return
    for name, shape in (("base", small), ("super", source.img_shape)):
        try:
            getattr(params, f"train_{name}").config(shape, len(source.class_names))
        except ValueError as error:
            yield f"train_{name}: {error}"


def text_encoder_fits(params: Any) -> Iterator[str]:
    """The base model takes the weights of the text encoder."""
    if params.train_base.conditioning != "frozen_caption":
        return
    options = params.train_base.options("conditioning")
    for key in TextShape.model_fields:
        its, wanted = getattr(options, key), getattr(params.train_text, key)
        if its != wanted:
            yield f"train_base.frozen_caption.{key} is {its}; it must be train_text.{key}, {wanted}"


def samples_can_be_drawn(params: Any) -> Iterator[str]:
    """What is sampled from each network is what it was trained for."""
    for name in ("base", "super"):
        yield from sampling_fits(params, f"sample_{name}", f"train_{name}")
        yield from conditioning_fits(getattr(params, f"train_{name}"), f"train_{name}", main_data())
    guide, training = params.guide, params.train_base
    most, least = min(training.max_steps, params.train_super.max_steps), SAMPLERS[guide.sampler].min_steps
    if not least <= guide.n_steps <= most:
        yield f"guide.n_steps is {guide.n_steps}; sampler {guide.sampler} takes {least} to {most} here"
    scale = max(guide.guidance_scales)
    if scale != 1 and training.conditioning and not training.options("conditioning").dropout:
        yield f"guide.guidance_scales is {scale:g}; train_base.{training.conditioning}.dropout is 0, so it must be 1"


def low_resolution_stays_beside_its_image(params: Any) -> Iterator[str]:
    """It would have to be flipped and shifted with its image."""
    for key, off in (("flip", False), ("max_shift", 0)):
        if (value := getattr(params.train_super, key)) != off:
            yield f"train_super.{key} is {str(value).lower()}; it must be {str(off).lower()}"


def there_is_enough(params: Any) -> Iterator[str]:
    """Samples have captions, and are not more than what they are made of."""
    n_asked, n_base, n_super = (
        params.prompt.n_seen + params.prompt.n_withheld,
        params.sample_base.n_samples,
        params.sample_super.n_samples,
    )
    for key, value, limit, most in (
        ("prompt.n_seen", params.prompt.n_seen, "data.n_held_out of the main params.yaml", main_data().held_out_size),
        ("sample_base.n_samples", n_base, "prompt.n_seen + prompt.n_withheld", n_asked),
        ("sample_super.n_samples", n_super, "sample_base.n_samples", n_base),
        ("evaluate.n_samples", params.evaluate.n_samples or 0, "sample_super.n_samples", n_super),
        ("render.n_columns", params.render.n_columns, "sample_super.n_samples", n_super),
        ("render.n_captions", params.render.n_captions, "the captions of guide.captions", len(params.guide.captions)),
    ):
        if value > most:
            yield f"{key} is {value}; it cannot exceed {limit}, {most}"


RULES = (
    networks_can_be_built,
    text_encoder_fits,
    samples_can_be_drawn,
    low_resolution_stays_beside_its_image,
    there_is_enough,
)
STAGES = {CHECK: check_stage(RULES, [MAIN])}

if __name__ == "__main__":
    run(STAGES)
