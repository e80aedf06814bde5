"""DALL-E 2: samples by guidance scale and decoder input, variations, interpolation and text differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ddpm.captions import vocabulary
from ddpm.figures.canvas import image_table
from ddpm.figures.captioned import caption_grid, frontier
from ddpm.figures.losses import Losses, load_losses, losses_deps
from ddpm.figures.parts import Flow, Part, parts_diagram
from ddpm.figures.reports import Rows, as_pixels, read_rows
from ddpm.figures.topic import Topic
from ddpm.run.files import load_tensors
from ddpm.run.params import Section
from ddpm.run.stage import StageRun
from ddpm.sampling.decoder import SIGNALS

FIGURES, SAMPLES, VARY, EDIT = (f"samples/{name}.safetensors" for name in ("figures", "captions", "vary", "edit"))
SWEEP = "reports/sweep/sweep.csv"
TRAINED = "prior", "decoder"
IN_WORDS = {"prior": "prior's embedding", "text": "text embedding", "none": "caption only"}


class Render(Section):
    """Section `render`. n_columns: images in the figures of variations and of text differences."""

    n_columns: Annotated[int, Ge(1), Le(24)]


@dataclass(frozen=True)
class Dalle2:
    """Inputs of the figures. All images are pixels in [0, 1].

    Attributes:
        params: Section `render`.
        captions: The captions of `by_scale` and `by_signal`.
        scales: Guidance scales.
        by_scale: Samples by caption and guidance scale.
        by_signal: Samples by caption and by the other input of the decoder, in the order of SIGNALS.
        varied: The output of stage vary.
        edited: The output of stage edit, without the shares.
        shares: Fractions of the way to a text difference.
        sweep: The rows of sweep.csv.
        losses: The losses of the prior and of the decoder.
    """

    params: Render
    captions: Sequence[str]
    scales: Sequence[float]
    by_scale: Float[Tensor, "captions scales n c h w"]
    by_signal: Float[Tensor, "captions signals n c h w"]
    varied: Mapping[str, Tensor]
    edited: Mapping[str, Tensor]
    shares: Sequence[float]
    sweep: Rows
    losses: Mapping[str, Losses]

    @property
    def differences(self) -> list[str]:
        """The text differences, as in "dark to light"."""
        return [name for name in self.edited if not name.endswith("/of")]


def load(stage: StageRun) -> Dalle2:
    """Read the outputs of the other stages."""
    figures, drawn, varied, edited = (load_tensors(Path(path)) for path in (FIGURES, SAMPLES, VARY, EDIT))
    shares = edited.pop("shares").tolist()
    return Dalle2(
        stage.params,
        vocabulary.captions(figures["tokens"][:, 0]),
        drawn["scales"].tolist(),
        as_pixels(drawn["by_scale"]),
        as_pixels(drawn["by_signal"]),
        {name: as_pixels(images) for name, images in varied.items()},
        {name: as_pixels(images) for name, images in sorted(edited.items())},
        shares,
        read_rows(Path(SWEEP)),
        {name: load_losses(name) for name in TRAINED},
    )


DEPS = [FIGURES, SAMPLES, VARY, EDIT, SWEEP, *(path for name in TRAINED for path in losses_deps(name))]
TOPIC = Topic("DALL-E 2", 0, DEPS, load, Render)


@TOPIC.figure(
    caption="The components of DALL-E 2, and what they pass to each other.",
    alt="Boxes for the networks and arrows between them",
)
def dalle2_parts(_: object) -> Figure:
    return parts_diagram(
        "The components of DALL-E 2",
        "Boxes are trained. CLIP is trained first and then frozen; prior and decoder are trained on its embeddings.",
        {
            "caption": Part(0, 0, learns=False),
            "CLIP's\ntext encoder": Part(1.2, 0),
            "prior": Part(3, 0),
            "image": Part(0, 1, learns=False),
            "CLIP's\nimage encoder": Part(1.2, 1),
            "image\nembedding": Part(3, 1, learns=False),
            "noise": Part(3, 2, learns=False),
            "decoder": Part(4, 1),
            "samples": Part(5, 1, learns=False),
        },
        [
            Flow("caption", "CLIP's\ntext encoder", "words"),
            Flow("CLIP's\ntext encoder", "prior", "text embedding"),
            Flow("prior", "image\nembedding", "x_0"),
            Flow("image", "CLIP's\nimage encoder"),
            Flow("CLIP's\nimage encoder", "image\nembedding", "training,\nvariations"),
            Flow("image\nembedding", "decoder"),
            Flow("noise", "decoder", "x_T"),
            Flow("decoder", "samples", "x_0"),
        ],
    )


@TOPIC.figure(
    caption="Samples by caption and guidance scale of the decoder, from the same noise at each scale.",
    alt="Rows of items of clothing, one row per caption",
)
def captions(inputs: Dalle2) -> Figure:
    return caption_grid(inputs.by_scale, inputs.captions, inputs.scales)


@TOPIC.figure(
    caption="Samples of the decoder from the same captions and noise, given the prior's image embedding, a text "
    "embedding in its place, or none (figure 8 of the paper).",
    alt="Rows of items of clothing, one row per caption, in three groups of columns",
)
def signals(inputs: Dalle2) -> Figure:
    n = inputs.by_signal.shape[2]
    return image_table(
        inputs.by_signal.flatten(0, 2),
        n * len(SIGNALS),
        title="The decoder's input",
        note="The first samples of one decoder from the same noise, not cherry-picked. All three also get the caption.",
        xlabel="given besides the caption",
        ylabel="caption",
        columns=[IN_WORDS[signal] if i == (n - 1) // 2 else "" for signal in SIGNALS for i in range(n)],
        rows=inputs.captions,
        column_breaks=range(n, n * len(SIGNALS), n),
    )


@TOPIC.figure(
    caption="Variations: held-out images, and images that the decoder samples from their embeddings with different "
    "noise (figure 3 of the paper).",
    alt="Columns of similar items of clothing that differ in details",
)
def variations(inputs: Dalle2) -> Figure:
    originals, made = (inputs.varied[name][: inputs.params.n_columns] for name in ("originals", "variations"))
    return image_table(
        torch.cat((originals[None], made.transpose(0, 1))).flatten(0, 1),
        len(originals),
        title="Variations",
        note="Top row: the first held-out images, not cherry-picked. Below: samples of the decoder from their "
        "embeddings, without captions.",
        xlabel="held-out images",
        ylabel="",
        rows=["original", *(f"variation {i}" for i in range(1, 1 + made.shape[1]))],
        row_breaks=[1],
    )


@TOPIC.figure(
    caption="Interpolation: two images, and samples of the decoder from embeddings on the arc between theirs, with the "
    "same noise in each row (figure 4 of the paper).",
    alt="Rows of items of clothing that turn from one into another",
)
def between(inputs: Dalle2) -> Figure:
    made = inputs.varied["between"]
    n, k = made.shape[:2]
    ends = inputs.varied["originals"][: 2 * n]
    return image_table(
        torch.cat((ends[::2, None], made, ends[1::2, None]), dim=1).flatten(0, 1),
        k + 2,
        title="Interpolation",
        note="First and last column: the first pairs of held-out images, not cherry-picked. Between them: samples of "
        "the decoder from embeddings on the arc from one to the other.",
        xlabel="weight of the second image",
        ylabel="",
        columns=["original", *(f"{share:.2g}" for share in torch.linspace(0, 1, k).tolist()), "original"],
        column_breaks=[1, k + 1],
    )


@TOPIC.figure(
    caption="Text differences: the embedding of an image, moved in the direction from one caption to another (figure 5 "
    "of the paper).",
    alt="Columns of items of clothing; in each group of rows they become lighter, darker or patterned downwards",
)
def edits(inputs: Dalle2) -> Figure:
    names, n_rows = inputs.differences, 1 + len(inputs.shares)
    n = min(inputs.params.n_columns, *(len(inputs.edited[name]) for name in names))
    columns = [torch.cat((inputs.edited[f"{name}/of"][:n, None], inputs.edited[name][:n]), dim=1) for name in names]
    rows = [f"{name}, original" for name in names], *([f"{share:g}"] * len(names) for share in inputs.shares)
    return image_table(
        torch.cat([images.transpose(0, 1) for images in columns]).flatten(0, 1),
        n,
        title="Text differences",
        note="The first held-out images that show a value, not cherry-picked. Below each: samples of the decoder from "
        "its embedding, moved by a fraction of the way to the difference, with the same noise.",
        xlabel="held-out images",
        ylabel="fraction of the way to the difference",
        rows=[row for group in zip(*rows, strict=True) for row in group],
        row_breaks=range(n_rows, n_rows * len(names), n_rows),
    )


@TOPIC.figure(
    caption="Precision against recall as the decoder's guidance grows, with the prior's embeddings and with captions "
    "only (figures 9 and 10 of the paper).",
    alt="Curves of precision against recall, with guidance scales next to the points",
)
def guidance(inputs: Dalle2) -> Figure:
    return frontier(inputs.sweep, IN_WORDS)


@TOPIC.figure(
    caption="The loss of the prior during training, on the embeddings of training images and of held-out ones.",
    alt="Curves of training and evaluation loss by training step",
)
def prior_loss(inputs: Dalle2) -> Figure:
    return inputs.losses["prior"].drawn("prior", "image embedding")


@TOPIC.figure(
    caption="The loss of the decoder during training, on training images and on held-out ones.",
    alt="Curves of training and evaluation loss by training step",
)
def decoder_loss(inputs: Dalle2) -> Figure:
    return inputs.losses["decoder"].drawn("decoder")
