"""Rules across sections of doors/latent/params.yaml, which the door's stage check applies."""

from collections.abc import Iterator
from typing import Any

from ddpm.data.dataset import FEWEST
from ddpm.doors.main_pipeline import main_data
from ddpm.doors.shared_rules import are_no_pictures, takes_captions
from ddpm.rules import conditioning_fits, guidance_fits, sampling_fits, steps_fit


def networks_can_be_built(params: Any) -> Iterator[str]:
    """Images, factor, channels and groups are compatible, and so are latents and the levels of the network."""
    source = main_data().source
    key = "train_autoencoder"
    try:
        latents = params.train_autoencoder.config(source.img_shape).latent_shape
        key = "train_latent"
        params.train_latent.config(latents, len(source.class_names))
    except ValueError as error:
        yield f"{key}: {error}"


def latents_are_no_pictures(params: Any) -> Iterator[str]:
    """The U-Net is trained on latents, so options for images do not apply."""
    yield from are_no_pictures("latents", params, "train_latent", "sample_latent")
    if params.guide.clip_sample:
        yield "guide.clip_sample is true; latents are not images, so it must be false"


def network_follows_captions(params: Any) -> Iterator[str]:
    """Samples are drawn for captions, or for the classes that they name."""
    yield from takes_captions(params, "train_latent")


def sampling_is_trained(params: Any) -> Iterator[str]:
    """Steps, variance, guidance and conditioning of sampling fit the training of the network."""
    yield from sampling_fits(params, "sample_latent", "train_latent")
    yield from conditioning_fits(params.train_latent, "train_latent", main_data())
    yield from steps_fit(params, "guide", "train_latent")
    yield from guidance_fits(max(params.guide.grid.scales), "guide.grid.scales", params, "train_latent")


def samples_have_captions(params: Any) -> Iterator[str]:
    """Each sample is drawn for the caption or class of another held-out image."""
    if (n := params.sample_latent.n_samples) > (most := main_data().held_out_size):
        yield f"sample_latent.n_samples is {n}; it cannot exceed data.n_held_out of the main pipeline, {most}"


def evaluation_has_images(params: Any) -> Iterator[str]:
    """No more images are evaluated than there are samples and unseen images."""
    data, n = main_data(), params.evaluate.n_samples
    limits = {
        "sample_latent.n_samples": params.sample_latent.n_samples,
        "data.n_held_out of the main pipeline": data.held_out_size,
        "its test split": data.source.n_test,
    }
    for key, most in limits.items():
        if n is not None and n > most:
            yield f"evaluate.n_samples is {n}; it cannot exceed {key}, {most}"
        if n is None and most < FEWEST:
            yield f"{key} is {most}; as many samples are evaluated, so it must be at least {FEWEST}"


RULES = (
    networks_can_be_built,
    latents_are_no_pictures,
    network_follows_captions,
    sampling_is_trained,
    samples_have_captions,
    evaluation_has_images,
)
