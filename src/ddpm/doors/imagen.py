"""Rules across sections of doors/imagen/params.yaml, which the door's stage check applies."""

from collections.abc import Iterator
from typing import Any

from ddpm.conditioning.kinds.frozen_caption import FrozenCaption
from ddpm.conditioning.kinds.low_resolution import LowResolution
from ddpm.conditioning.text import TextShape
from ddpm.doors.main_pipeline import main_data
from ddpm.doors.shared_rules import kind, takes_captions
from ddpm.rules import conditioning_fits, guidance_fits, sampling_fits, steps_fit


def networks_fit(params: Any) -> Iterator[str]:
    """The networks can be built for their images, get the conditioning that they need, and fit each other."""
    data, factor, enlarging = main_data(), params.shrink.factor, params.train_super
    yield from takes_captions(params, "train_base")
    if kind(enlarging) is not LowResolution:
        yield f"train_super.conditioning is {enlarging.conditioning or 'null'}; it must be low_resolution"
    elif (its := enlarging.options("conditioning").factor) != factor:
        yield f"train_super.low_resolution.factor is {its}; it must be shrink.factor, {factor}"
    for key in ("flip", "max_shift"):
        if value := getattr(enlarging, key):
            yield f"train_super.{key} is {value}; the low-resolution image is not changed, so it must be false or 0"
    channels, height, width = data.source.img_shape
    shapes = {"train_base": (channels, height // factor, width // factor), "train_super": data.source.img_shape}
    for key, shape in shapes.items():
        try:
            getattr(params, key).config(shape, len(data.source.class_names))
        except ValueError as error:
            yield f"{key}: {error}"


def text_encoder_fits(params: Any) -> Iterator[str]:
    """The base model's frozen text encoder has the shape of the text encoder that stage train_text trains."""
    base, text = params.train_base, params.train_text
    for name in TextShape.model_fields if kind(base) is FrozenCaption else ():
        if (its := getattr(base.options("conditioning"), name)) != (wanted := getattr(text, name)):
            yield f"train_base.{base.conditioning}.{name} is {its}; it must be train_text.{name}, {wanted}"


def sampling_is_trained(params: Any) -> Iterator[str]:
    """Steps, variance, guidance and conditioning of sampling fit the training of the networks."""
    for name in ("base", "super"):
        yield from sampling_fits(params, f"sample_{name}", f"train_{name}")
        yield from conditioning_fits(getattr(params, f"train_{name}"), f"train_{name}", main_data())
        yield from steps_fit(params, "guide", f"train_{name}")
    yield from guidance_fits(max(params.guide.guidance_scales), "guide.guidance_scales", params, "train_base")


def there_is_enough(params: Any) -> Iterator[str]:
    """No stage needs more samples than the one before draws, and evaluated samples have full resolution."""
    prompt, n_base, n_super = params.prompt, params.sample_base.n_samples, params.sample_super.n_samples
    for key, value, limit, most in (
        ("sample_base.n_samples", n_base, "prompt.n_seen + prompt.n_withheld", prompt.n_seen + prompt.n_withheld),
        ("sample_super.n_samples", n_super, "sample_base.n_samples", n_base),
        ("evaluate.n_samples", params.evaluate.n_samples or 0, "sample_super.n_samples", n_super),
    ):
        if value > most:
            yield f"{key} is {value}; it cannot exceed {limit}, {most}"
    if params.evaluate.of == "base" and params.shrink.factor != 1:
        yield f"evaluate.of is base; its samples are {params.shrink.factor} times smaller, so it must be super"


RULES = networks_fit, text_encoder_fits, sampling_is_trained, there_is_enough
