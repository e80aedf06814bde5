"""Rules across sections of doors/dalle2/params.yaml, which the door's stage check applies."""

from collections.abc import Iterator
from typing import Any

from ddpm.conditioning.kinds.clip_caption import ClipCaption
from ddpm.conditioning.kinds.embedding import Embedding
from ddpm.conditioning.text import TextShape
from ddpm.doors.main_pipeline import main_data
from ddpm.doors.shared_rules import are_no_pictures, kind
from ddpm.rules import conditioning_fits, guidance_fits, sampling_fits, steps_fit


def networks_can_be_built(params: Any) -> Iterator[str]:
    """The networks can be built for their images or embeddings, and get the conditioning that they need."""
    prior, decoder, data = params.train_prior, params.train_decoder, main_data()
    if kind(prior) is not ClipCaption:
        yield f"train_prior.conditioning is {prior.conditioning or 'null'}; it must be clip_caption"
    if not decoder.conditioning or kind(decoder).data_set is None or kind(decoder).gives_image:
        name = decoder.conditioning or "null"
        yield f"train_decoder.conditioning is {name}; it must be embedding, or one of captions only"
    shapes = {"train_prior": (params.train_clip.size, 1, 1), "train_decoder": data.source.img_shape}
    for key, shape in shapes.items():
        try:
            getattr(params, key).config(shape, len(data.source.class_names))
        except ValueError as error:
            yield f"{key}: {error}"
        yield from conditioning_fits(getattr(params, key), key, data)
    try:
        params.train_clip.config(data.source.img_shape)
    except ValueError as error:
        yield f"train_clip: {error}"


def embeddings_are_those_of_clip(params: Any) -> Iterator[str]:
    """Prior and decoder have the embedding size of CLIP, and the prior has its text encoder."""
    shared = {"train_prior": (ClipCaption, ("size", *TextShape.model_fields)), "train_decoder": (Embedding, ("size",))}
    for stage, (wanted, names) in shared.items():
        training = getattr(params, stage)
        for name in names if kind(training) is wanted else ():
            its, own = getattr(training.options("conditioning"), name), getattr(params.train_clip, name)
            if its != own:
                yield f"{stage}.{training.conditioning}.{name} is {its}; it must be train_clip.{name}, {own}"


def embeddings_are_no_pictures(params: Any) -> Iterator[str]:
    """The prior is trained on vectors, so options for images do not apply."""
    yield from are_no_pictures("embeddings", params, "train_prior", "sample_prior")


def decoder_takes_what_it_is_given(params: Any) -> Iterator[str]:
    """A decoder that is conditioned on captions only takes no embedding."""
    if kind(params.train_decoder) is Embedding:
        return
    for key, signals in {"sample.signal": [params.sample.signal], "sweep.signals": params.sweep.signals}.items():
        if signals != ["none"]:
            said = params.train_decoder.conditioning or "null"
            yield f"{key} is {', '.join(signals)}; train_decoder.conditioning is {said}, so it must be none"


def sampling_is_trained(params: Any) -> Iterator[str]:
    """Steps, variance and guidance of sampling fit the training of the networks."""
    yield from sampling_fits(params, "sample_prior", "train_prior")
    for sample in ("sample", "vary", "edit"):
        yield from sampling_fits(params, sample, "train_decoder")
    yield from steps_fit(params, "sweep", "train_decoder")
    for key, scales in {"sample.scales": params.sample.scales, "sweep.scales": params.sweep.scales}.items():
        yield from guidance_fits(max(scales), key, params, "train_decoder")


def there_is_enough(params: Any) -> Iterator[str]:
    """No more samples are evaluated than are drawn."""
    most = params.sample_prior.n_seen
    for key, value in (("sweep.n_samples", params.sweep.n_samples), ("evaluate.n_samples", params.evaluate.n_samples)):
        if value is not None and value > most:
            yield f"{key} is {value}; it cannot exceed sample_prior.n_seen, {most}"


RULES = (
    networks_can_be_built,
    embeddings_are_those_of_clip,
    embeddings_are_no_pictures,
    decoder_takes_what_it_is_given,
    sampling_is_trained,
    there_is_enough,
)
