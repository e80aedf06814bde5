"""GLIDE: samples by guidance scale, inpainting, the trade-off of guidance, and the losses."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from ddpm.figures.captioned import caption_grid, frontier, holes_table
from ddpm.figures.losses import Losses, load_losses, losses_deps
from ddpm.figures.parts import Flow, Part, parts_diagram
from ddpm.figures.reports import Rows, as_pixels, read_rows
from ddpm.figures.topic import Topic
from ddpm.run.files import load_tensors
from ddpm.run.stage import StageRun
from ddpm.sampling.prompted import SampleCaptions

SAMPLES, FILLED, SWEEP = "samples/captions.safetensors", "samples/inpaint.safetensors", "reports/sweep/sweep.csv"
TRAINED = "base", "inpaint"


@dataclass(frozen=True)
class Glide:
    """Inputs of the figures.

    Attributes:
        params: Section `sample`.
        grid: Samples by caption and guidance scale, 8-bit.
        filled: The output of stage inpaint.
        sweep: The rows of sweep.csv.
        losses: The losses of the base model and of the network fine-tuned to inpaint.
    """

    params: Any
    grid: Tensor
    filled: Mapping[str, Tensor]
    sweep: Rows
    losses: Mapping[str, Losses]


def load(stage: StageRun) -> Glide:
    """Read the outputs of the other stages."""
    grid, filled = load_tensors(Path(SAMPLES))["grid"], load_tensors(Path(FILLED))
    return Glide(stage.params, grid, filled, read_rows(Path(SWEEP)), {name: load_losses(name) for name in TRAINED})


DEPS = [SAMPLES, FILLED, SWEEP, *(path for name in TRAINED for path in losses_deps(name))]
TOPIC = Topic("GLIDE", 0, DEPS, load, SampleCaptions)


@TOPIC.figure(
    caption="The components of GLIDE, and what they pass to each other.",
    alt="Boxes for the networks and arrows between them",
)
def glide_parts(_: object) -> Figure:
    return parts_diagram(
        "The components of GLIDE",
        "Boxes are trained. One CLIP, trained on noised images, can guide sampling; another one judges the samples.",
        {
            "caption": Part(0, 0, learns=False),
            "text\ntransformer": Part(1, 0),
            "CLIP": Part(3, 0),
            "noise": Part(0, 1, learns=False),
            "U-Net": Part(2, 1),
            "samples": Part(3, 1, learns=False),
            "image with a hole,\nand the hole": Part(0.5, 2, learns=False),
            "U-Net,\nfine-tuned": Part(2, 2),
            "filled image": Part(3, 2, learns=False),
        },
        [
            Flow("caption", "text\ntransformer", "words"),
            Flow("text\ntransformer", "U-Net", "a vector per word"),
            Flow("CLIP", "U-Net", "gradient"),
            Flow("noise", "U-Net", "x_T"),
            Flow("U-Net", "samples", "x_0"),
            Flow("U-Net", "U-Net,\nfine-tuned", "weights"),
            Flow("image with a hole,\nand the hole", "U-Net,\nfine-tuned", "extra channels"),
            Flow("U-Net,\nfine-tuned", "filled image", "x_0"),
        ],
    )


@TOPIC.figure(
    caption="Samples by caption and guidance scale, from the same noise at each scale.",
    alt="Rows of items of clothing, one row per caption",
)
def captions(inputs: Glide) -> Figure:
    grid = inputs.params.grid
    return caption_grid(as_pixels(inputs.grid), grid.captions, grid.scales)


@TOPIC.figure(
    caption="Held-out images, the same images with a hole, and the hole filled by two methods, given their captions.",
    alt="Rows of items of clothing: whole, with parts missing, and with those parts filled in",
)
def inpainting(inputs: Glide) -> Figure:
    return holes_table(inputs.filled)


@TOPIC.figure(
    caption="Precision against recall with classifier-free guidance and with CLIP guidance (figure 6 of the paper).",
    alt="Two curves of precision against recall, with guidance scales next to the points",
)
def guidance(inputs: Glide) -> Figure:
    return frontier(inputs.sweep, {method: f"{method} guidance" for method in ("classifier-free", "CLIP")})


@TOPIC.figure(
    caption="The loss of the base model during training, on training images and on held-out ones.",
    alt="Curves of training and evaluation loss by training step",
)
def base_loss(inputs: Glide) -> Figure:
    return inputs.losses["base"].drawn("base model")


@TOPIC.figure(
    caption="The loss of the network fine-tuned to inpaint, on training images and on held-out ones, all with holes.",
    alt="Curves of training and evaluation loss by training step",
)
def inpaint_loss(inputs: Glide) -> Figure:
    return inputs.losses["inpaint"].drawn("inpainting network")
