"""Imagen: samples by caption, guidance scale and clipping, samples at each step of the cascade, and the losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ddpm.captions.vocabulary import captions
from ddpm.figures.canvas import image_table
from ddpm.figures.captioned import caption_grid
from ddpm.figures.losses import Losses, load_losses, losses_deps
from ddpm.figures.parts import Flow, Part, parts_diagram
from ddpm.figures.reports import as_pixels
from ddpm.figures.topic import Topic
from ddpm.images import denormalize_img
from ddpm.run.files import load_tensors
from ddpm.run.params import Section
from ddpm.run.stage import StageRun
from ddpm.sampling.clipping import in_words

BASE, SUPER, GUIDE = (f"samples/{name}.safetensors" for name in ("base", "super", "guide"))
TRAINED = "base", "super"


class Render(Section):
    """Section `render`. n_columns: samples in the cascade figure. n_captions: captions in the clipping figure."""

    n_columns: Annotated[int, Ge(1), Le(32)]
    n_captions: Annotated[int, Ge(1), Le(12)]


@dataclass(frozen=True)
class Imagen:
    """Inputs of the figures. All images are pixels in [0, 1].

    Attributes:
        params: Section `render`.
        guided: Samples by clipping method, guidance scale and caption.
        clips: The clipping methods.
        scales: The guidance scales.
        captions: The captions.
        low: Samples of the base model.
        noised: The same with noise, as input of the super-resolution network.
        samples: The samples of the super-resolution network.
        level: The noise level of `noised`, from 0 (none) to 1 (pure noise).
        losses: The losses of the base model and of the super-resolution network.
    """

    params: Render
    guided: Float[Tensor, "clips scales captions n c h w"]
    clips: Sequence[str]
    scales: Sequence[float]
    captions: Sequence[str]
    low: Float[Tensor, "m c h1 w1"]
    noised: Float[Tensor, "m c h1 w1"]
    samples: Float[Tensor, "m c h w"]
    level: float
    losses: Mapping[str, Losses]


def load(stage: StageRun) -> Imagen:
    """Read the outputs of stages guide, sample_base and sample_super."""
    guided, base, made = (load_tensors(Path(path)) for path in (GUIDE, BASE, SUPER))
    n, cond = stage.params.n_columns, made["cond"]
    return Imagen(
        stage.params,
        as_pixels(guided["samples"]),
        [in_words(clip) for clip in guided["clip_samples"].tolist()],
        guided["guidance_scales"].tolist(),
        captions(guided["tokens"]),
        as_pixels(base["samples"][:n]),
        denormalize_img(cond[:n, :-1]),
        as_pixels(made["samples"][:n]),
        cond[0, -1, 0, 0].item(),
        {name: load_losses(name) for name in TRAINED},
    )


DEPS = [BASE, SUPER, GUIDE, *(path for name in TRAINED for path in losses_deps(name))]
TOPIC = Topic("Imagen", 0, DEPS, load, Render)


@TOPIC.figure(
    caption="The components of Imagen, and what they pass to each other.",
    alt="Boxes for the networks and arrows between them",
)
def imagen_parts(_: object) -> Figure:
    return parts_diagram(
        "The components of Imagen",
        "Boxes are trained. The text encoder is trained on text only and then frozen.",
        {
            "caption": Part(0, 0, learns=False),
            "text encoder,\nfrozen": Part(1, 0),
            "noise": Part(0, 1, learns=False),
            "base model": Part(1, 1),
            "small samples": Part(2, 1, learns=False),
            "new noise": Part(2, 0, learns=False),
            "super-resolution\nmodel": Part(3, 1),
            "samples": Part(4, 1, learns=False),
        },
        [
            Flow("caption", "text encoder,\nfrozen", "words"),
            Flow("text encoder,\nfrozen", "base model", "a vector per word"),
            Flow("noise", "base model"),
            Flow("base model", "small samples"),
            Flow("small samples", "super-resolution\nmodel"),
            Flow("new noise", "super-resolution\nmodel", "level"),
            Flow("super-resolution\nmodel", "samples"),
        ],
    )


@TOPIC.figure(
    caption="Samples by caption and guidance scale; clipping: {inputs.clips[0]}.",
    alt="Rows of items of clothing, one row per caption, in groups of columns by guidance scale",
)
def by_caption(inputs: Imagen) -> Figure:
    return caption_grid(inputs.guided[0].transpose(0, 1), inputs.captions, inputs.scales)


@TOPIC.figure(
    caption="Guidance with each method of clipping the base model's x0 estimates, from the same captions and noise.",
    alt="The same items of clothing in each row, one row per clipping method, in groups of columns by guidance scale",
)
def by_clipping(inputs: Imagen) -> Figure:
    n, scales = inputs.params.n_captions, inputs.scales
    return image_table(
        inputs.guided[:, :, :n, 0].flatten(0, 2),
        n * len(scales),
        title="Clipping and guidance",
        note="Guidance pushes the base model's x0 estimates out of range; the rows differ in how they are brought "
        "back. Static: clipped. Dynamic: clipped at a quantile and rescaled.",
        xlabel="guidance scale",
        ylabel="clipping",
        columns=[f"{scale:g}" if i == 0 else "" for scale in scales for i in range(n)],
        rows=inputs.clips,
        column_breaks=range(n, n * len(scales), n),
    )


@TOPIC.figure(
    caption="Samples of the base model, the same with noise as the super-resolution network gets them, and its output.",
    alt="Columns of three images: a coarse item of clothing, the same with noise, and a fine one",
)
def cascade(inputs: Imagen) -> Figure:
    size = inputs.samples.shape[-2:]
    enlarged = [F.interpolate(images, size) for images in (inputs.low, inputs.noised)]
    small, large = ("x".join(map(str, images.shape[-2:])) for images in (inputs.low, inputs.samples))
    return image_table(
        torch.cat((*enlarged, inputs.samples)),
        len(inputs.samples),
        title="The cascade",
        note="The first samples, not cherry-picked. The super-resolution network is given the noise level.",
        xlabel="samples",
        ylabel="",
        rows=[small, f"level {inputs.level:g}", large],
    )


@TOPIC.figure(
    caption="The loss of the base model during training, on training images and on held-out ones, at low resolution.",
    alt="Curves of training and evaluation loss by training step",
)
def base_loss(inputs: Imagen) -> Figure:
    return inputs.losses["base"].drawn("base model")


@TOPIC.figure(
    caption="The loss of the super-resolution network during training, on training images and on held-out ones.",
    alt="Curves of training and evaluation loss by training step",
)
def super_loss(inputs: Imagen) -> Figure:
    return inputs.losses["super"].drawn("super-resolution network")
