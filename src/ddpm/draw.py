"""`python -m ddpm.draw models/unet.safetensors FOLDER` draws images from a trained network as PNG files."""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddpm.clip.given import cond_of_picture, cond_of_prior
from ddpm.clip.model import load_clip
from ddpm.data.pictures import open_picture
from ddpm.diffusion.model import DiffusionModel
from ddpm.errors import UserError
from ddpm.images import denormalize_img, to_uint8
from ddpm.latent.autoencoder import Autoencoder, decode_latents, load_autoencoder
from ddpm.networks.checkpoint import load_model
from ddpm.output import MEMORY_HINT, check_folder, check_numbers, load_image_model, write_pngs
from ddpm.run.stage import mistakes_in_one_line
from ddpm.sampling import cascade
from ddpm.sampling.arguments import check_guidance, steps_below
from ddpm.sampling.sample import sample
from ddpm.sampling.sampler import SAMPLERS
from ddpm.sampling.spacing import SPACINGS


def main() -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser("ddpm.draw", description="draw images from a trained network as PNG files")
    parser.add_argument("model", type=Path, help="a safetensors file, such as models/unet.safetensors")
    parser.add_argument("folder", type=Path, help="output folder; it is created if it does not exist")
    parser.add_argument("-n", type=int, default=16, help="number of images (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (%(default)s)")
    parser.add_argument("--sampler", choices=list(SAMPLERS), default="ancestral", help="(%(default)s)")
    parser.add_argument("--n-steps", type=int, help="number of sampler steps (all)")
    parser.add_argument("--spacing", choices=list(SPACINGS), default="even", help="spacing of timesteps (%(default)s)")
    parser.add_argument("--label", type=int, help="class of all images, for a class-conditional network")
    parser.add_argument("--caption", help="caption of all images, such as 'a dark dress', if supported")
    parser.add_argument("--guidance-scale", type=float, default=1.0, help="(%(default)s)")
    parser.add_argument("--prior", type=Path, help="a prior that draws the embedding of the caption")
    parser.add_argument("--like", type=Path, help="a picture of the size of its images to draw variations of")
    parser.add_argument("--clip", type=Path, help="the CLIP that embeds that picture")
    parser.add_argument(
        "--decoder", type=Path, help="the autoencoder that decodes the latents of a latent diffusion model"
    )
    parser.add_argument("--enlarge", type=Path, help="a super-resolution network, applied to the model's samples")
    parser.add_argument("--level", type=float, help=f"noise level of its input, 0 to 1 ({cascade.LEVEL})")
    with mistakes_in_one_line("draw", MEMORY_HINT):
        draw(**vars(parser.parse_args()))


def draw(
    model: Path,
    folder: Path,
    n: int,
    seed: int,
    label: int | None,
    caption: str | None,
    guidance_scale: float,
    prior: Path | None,
    like: Path | None,
    clip: Path | None,
    decoder: Path | None,
    enlarge: Path | None,
    level: float | None,
    **options: Any,
) -> None:
    """Draw images into files `0.png` to `N.png`, all with the same number of digits.

    Args:
        model: The network's file.
        folder: The output folder, created if it does not exist.
        n: Number of images.
        seed: Seed of the noise. Image i does not depend on n.
        label: The class of all images.
        caption: The caption of all images. Without a caption and a label, the model draws its own conditioning.
        guidance_scale: As in `ddpm.sample`.
        prior: The file of a prior that samples an image embedding from the caption, or None to use only the caption.
        like: The file of a picture to draw variations of, or None.
        clip: The file of the CLIP that embeds this picture.
        decoder: The file of the autoencoder that decodes the model's latents, or None for a model of images.
        enlarge: The file of a super-resolution network, or None to keep the model's samples.
        level: Noise level as in `ddpm.sampling.cascade.enlarge`, or None for its default.
        options: Further arguments of `ddpm.sample`, for both networks.

    Raises:
        UserError: A file is not a model, or an option is not allowed. No images are written.
    """
    check_numbers(n, seed, label)
    check_folder(folder)
    network = load_image_model(model) if decoder is None else load_model(model)
    autoencoder = None if decoder is None else load_autoencoder(decoder)
    larger = None if enlarge is None else load_image_model(enlarge)
    labels = None if label is None else torch.full((n,), label)
    try:
        if level is not None and larger is None:
            raise ValueError("level is given; it applies only with enlarge, which must be given too")
        if label is not None and (prior is not None or like is not None):
            raise ValueError("label is given; it cannot be combined with prior or like")
        check_guidance(network, guidance_scale)
        noise = cascade.LEVEL if level is None else level
        img_shape = network.img_shape
        if autoencoder is not None:
            img_shape = _decoded_shape(network, autoencoder)
        if larger is not None:
            _check_enlarging(larger, img_shape, noise, **options)
        cond = _embedded(network, n, caption, prior, like, clip, seed, options)
        captions = [caption] * n if caption is not None and cond is None else None
        stream = torch.Generator().manual_seed(seed)
        chosen: dict[str, Any] = {"cond": cond, "labels": labels, "captions": captions}
        chosen |= {"guidance_scale": guidance_scale, "clip_sample": autoencoder is None, **options}
        images = torch.as_tensor(sample(network, n, generator=stream, **chosen))
        if autoencoder is not None:
            images = decode_latents(autoencoder, images)
        if larger is not None:
            images = cascade.enlarge(larger, images, noise, seed, clip_sample=True, **options)
    except ValueError as error:
        raise UserError(str(error)) from None
    write_pngs(folder, to_uint8(denormalize_img(images)))


def _decoded_shape(network: DiffusionModel, autoencoder: Autoencoder) -> tuple[int, ...]:
    """The shape of decoded images. Raises ValueError if the latents of network and autoencoder differ in shape."""
    if (found := tuple(network.img_shape)) != (wanted := autoencoder.config.latent_shape):
        raise ValueError(f"decoder: it decodes latents of shape {wanted}; those of this model have shape {found}")
    return autoencoder.config.img_shape


def _check_enlarging(
    larger: DiffusionModel,
    img_shape: tuple[int, ...],
    level: float,
    n_steps: int | None = None,
    spacing: str = "even",
    **_: Any,
) -> None:
    """Raise ValueError unless `larger` can enlarge images of this shape, before any are drawn."""
    try:
        cascade.noised(larger, torch.zeros(1, *img_shape), level, seed=0)
        steps_below(larger, None, n_steps, spacing)
    except ValueError as error:
        raise ValueError(f"enlarge: {error}") from None


def _embedded(
    network: DiffusionModel,
    n: int,
    caption: str | None,
    prior: Path | None,
    like: Path | None,
    clip: Path | None,
    seed: int,
    options: dict[str, Any],
) -> Tensor | None:
    """The `cond` for an image embedding, from a caption with a prior or a picture with CLIP, or None for neither."""
    if prior is not None:
        if caption is None or like is not None:
            raise ValueError("prior is given; it needs a caption, and cannot be combined with like")
        return cond_of_prior(network, load_model(prior), [caption] * n, seed, **options)
    if (like is None) != (clip is None):
        raise ValueError("like and clip must be given together: a picture, and the CLIP that embeds it")
    if like is None or clip is None:
        return None
    if caption is not None:
        raise ValueError("like is given; it cannot be combined with a caption")
    return cond_of_picture(network, load_clip(clip), open_picture(like, network.img_shape), n)


if __name__ == "__main__":
    main()
