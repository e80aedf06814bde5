"""Latent Diffusion: reconstructions, and the same figures of the network and its samples as in the main pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ddpm.captions.vocabulary import captions
from ddpm.data.dataset import load_dataset
from ddpm.figures.canvas import image_table
from ddpm.figures.captioned import caption_grid
from ddpm.figures.parts import Flow, Part, parts_diagram
from ddpm.figures.pictures import denoising, training_previews
from ddpm.figures.reports import as_pixels
from ddpm.figures.topic import Topic
from ddpm.figures.trained import RenderModel, Trained, draw_samples, load_trained, trained_deps
from ddpm.run.files import load_tensors
from ddpm.run.stage import StageRun

TEST = "../../data/images/test.safetensors"
RECONSTRUCTIONS, GUIDE = "samples/reconstructions.safetensors", "samples/guide.safetensors"


@dataclass(frozen=True)
class Latent:
    """Inputs of the figures. All images are pixels in [0, 1].

    Attributes:
        network: The network trained on latents. Its previews, samples and trajectories are decoded.
        originals: Images that neither the network nor the autoencoder was trained on.
        reconstructions: The same images, encoded and decoded.
        guided: Samples by caption and guidance scale.
        captions: The captions.
        scales: The guidance scales.
    """

    network: Trained
    originals: Float[Tensor, "n c h w"]
    reconstructions: Float[Tensor, "n c h w"]
    guided: Float[Tensor, "captions scales m c h w"]
    captions: Sequence[str]
    scales: Sequence[float]


def load(stage: StageRun) -> Latent:
    """Read the outputs of the other stages."""
    pairs, guided = load_tensors(Path(RECONSTRUCTIONS)), load_tensors(Path(GUIDE))
    network = load_trained("latent", stage.params, load_dataset(Path(TEST)))
    return Latent(
        network,
        as_pixels(pairs["images"]),
        as_pixels(pairs["samples"]),
        as_pixels(guided["samples"]),
        captions(guided["tokens"]),
        guided["scales"].tolist(),
    )


TOPIC = Topic("Latent Diffusion", 0, [TEST, RECONSTRUCTIONS, GUIDE, *trained_deps("latent")], load, RenderModel)


@TOPIC.figure(
    caption="The components of Latent Diffusion, and what they pass to each other.",
    alt="Boxes for the networks and arrows between them",
)
def latent_parts(_: object) -> Figure:
    return parts_diagram(
        "The components of Latent Diffusion",
        "Boxes are trained. The autoencoder is trained first and then frozen; the U-Net is trained on its latents.",
        {
            "images": Part(0, 0, learns=False),
            "encoder": Part(1, 0),
            "latents": Part(2, 0, learns=False),
            "caption": Part(1, 1, learns=False),
            "noise": Part(1, 2, learns=False),
            "U-Net": Part(2, 1),
            "decoder": Part(3, 1),
            "samples": Part(4, 1, learns=False),
        },
        [
            Flow("images", "encoder"),
            Flow("encoder", "latents"),
            Flow("latents", "U-Net", "training"),
            Flow("caption", "U-Net"),
            Flow("U-Net", "decoder", "x_0"),
            Flow("decoder", "samples"),
            Flow("noise", "U-Net", "x_T"),
        ],
    )


@TOPIC.figure(
    caption="Unseen images, encoded and decoded. The decoder limits the quality of samples.",
    alt="Pairs of rows: images, and the same images after encoding and decoding",
)
def reconstructions(inputs: Latent) -> Figure:
    params = inputs.network.params
    n = min(params.grid_columns, len(inputs.originals))
    n_rows = min(params.grid_rows // 2 or 1, len(inputs.originals) // n)
    shown = torch.stack([each[: n_rows * n] for each in (inputs.originals, inputs.reconstructions)])
    images = rearrange(shown, "two (rows n) c h w -> (rows two n) c h w", n=n)
    return image_table(
        images,
        n,
        title="Reconstructions of unseen images",
        note="Top row of each pair: images that the autoencoder has not seen. Bottom row: their reconstructions.",
        xlabel="unseen image",
        ylabel="source",
        rows=["original", "reconstructed"] * n_rows,
        row_breaks=range(2, 2 * n_rows, 2),
    )


@TOPIC.figure(
    caption="Samples {inputs.network.origin}, not cherry-picked, and real images.",
    alt="A grid of samples, and real images",
)
def latent_samples(inputs: Latent) -> Figure:
    return draw_samples(inputs.network)


@TOPIC.figure(
    caption="Samples by caption and guidance scale.",
    alt="Rows of items of clothing, one row per caption, with more guidance to the right",
)
def latent_guided(inputs: Latent) -> Figure:
    return caption_grid(inputs.guided, inputs.captions, inputs.scales)


@TOPIC.figure(
    caption="Sampling {inputs.network.origin}, decoded at every step: noise on the left, samples on the right.",
    alt="Rows of images that turn from noise into pictures",
)
def latent_denoising(inputs: Latent) -> Figure:
    own = inputs.network
    return denoising(own.trajectories, own.num_steps, own.origin, own.label, own.params.strip_steps)


@TOPIC.figure(
    caption="Reconstructions of held-out latents during training, decoded.",
    alt="Noised latents, predictions and reconstructions at several training steps, as images",
)
def latent_previews(inputs: Latent) -> Figure:
    own = inputs.network
    return training_previews(own.previews, own.preview_steps, own.label, own.params.n_moments)


@TOPIC.figure(
    caption="The loss during training, on the latents of training images and of held-out ones.",
    alt="Curves of training and evaluation loss by training step",
)
def latent_loss(inputs: Latent) -> Figure:
    return inputs.network.losses.drawn(inputs.network.label, "latent")
