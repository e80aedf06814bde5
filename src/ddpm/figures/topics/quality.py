"""Sample quality: the classes of the U-Net's samples, and the training images nearest to them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ddpm.data.dataset import load_dataset
from ddpm.figures.canvas import BLUE, FAINT, ORANGE, curve_axes, image_table, legend_over
from ddpm.figures.names import label_of
from ddpm.figures.reports import Rows, as_pixels, read_json, read_rows
from ddpm.figures.topic import TOPICS, Topic
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import load_tensors
from ddpm.run.params import Section
from ddpm.run.stage import StageRun

MODEL, SAMPLES, TRAIN = "models/unet.safetensors", "samples/unet.safetensors", "data/images/train.safetensors"
REPORTS = "reports/evaluate_unet"
SCORES, CLASSES = f"{REPORTS}/scores.json", f"{REPORTS}/class_histogram.csv"
BY_PIXEL, BY_FEATURE = f"{REPORTS}/neighbours_pixel.csv", f"{REPORTS}/neighbours_classifier.csv"


class RenderQuality(Section):
    """Section `render_quality`. n_columns: samples in the figure of nearest neighbours."""

    n_columns: Annotated[int, Ge(2), Le(32)]


@dataclass(frozen=True)
class Inputs:
    """Results of stage evaluate_unet. All images are pixels in [0, 1].

    Attributes:
        label: The model's name in titles.
        n_samples: Number of samples that are scored.
        reference: The split that they are scored against.
        classes: Rows of class_histogram.csv, one per class.
        samples: The first samples, then those closest to a training image.
        by_pixel: The training image nearest to each of them, in pixels.
        by_feature: The training image nearest to each of them, in the classifier's features.
        closeness: The closeness of each of them to `by_pixel` (`ddpm.evaluation.neighbours`).
        n_first: How many of `samples` are the first ones, not cherry-picked.
    """

    label: str
    n_samples: int
    reference: str
    classes: Rows
    samples: Float[Tensor, "n c h w"]
    by_pixel: Float[Tensor, "n c h w"]
    by_feature: Float[Tensor, "n c h w"]
    closeness: Float[Tensor, "n"]
    n_first: int


def load(stage: StageRun) -> Inputs:
    """Read the outputs of stage evaluate_unet, and choose the samples to show with their neighbours."""
    n_columns = stage.params.n_columns
    scores, by_pixel, by_feature = read_json(Path(SCORES)), read_rows(Path(BY_PIXEL)), read_rows(Path(BY_FEATURE))
    closeness = torch.tensor([float(row["closeness"]) for row in by_pixel])
    n_first = n_columns // 2
    shown = torch.tensor([*range(n_first), *closeness.argsort(stable=True)[: n_columns - n_first]])
    train = load_dataset(Path(TRAIN)).images
    pixel, feature = (
        as_pixels(train[torch.tensor([int(rows[i]["index"]) for i in shown])]) for rows in (by_pixel, by_feature)
    )
    return Inputs(
        label=label_of(load_model(Path(MODEL))),
        n_samples=scores["n_samples"],
        reference=scores["reference"],
        classes=read_rows(Path(CLASSES)),
        samples=as_pixels(load_tensors(Path(SAMPLES))["samples"][shown]),
        by_pixel=pixel,
        by_feature=feature,
        closeness=closeness[shown],
        n_first=n_first,
    )


TOPIC = TOPICS.register(
    __name__,
    Topic("Sample quality", 4, [MODEL, SAMPLES, TRAIN, SCORES, CLASSES, BY_PIXEL, BY_FEATURE], load, RenderQuality),
)


@TOPIC.figure(
    caption="The share of each class among samples and real images, as predicted by the classifier.",
    alt="Bars of the share of each class among samples and real images",
)
def unet_classes(inputs: Inputs) -> Figure:
    names = [row["class"] for row in inputs.classes]
    figure, axes = curve_axes(
        f"Classes of the samples: {inputs.label}",
        f"Predictions of a classifier that was trained on real images, for {inputs.n_samples:,} samples and for the "
        f"real images that they are scored against, the {inputs.reference} split. Error bars: 95 % confidence "
        "intervals.",
        "class",
        "share of the images",
        names,
    )
    if not inputs.classes:
        axes.text(0.5, 0.5, "This data set has no classes.", ha="center", transform=axes.transAxes, color=FAINT)
        axes.set(xticks=[], yticks=[])
        return figure
    columns = "samples", "low", "high", "reference_seen"
    value, low, high, real = ([float(row[key]) for row in inputs.classes] for key in columns)
    places = range(len(inputs.classes))
    errors = [[v - at for v, at in zip(value, low, strict=True)], [at - v for v, at in zip(value, high, strict=True)]]
    axes.bar([i - 0.2 for i in places], value, 0.4, yerr=errors, label="samples", color=BLUE, ecolor=FAINT)
    axes.bar([i + 0.2 for i in places], real, 0.4, label="real images", color=ORANGE)
    axes.grid(False, axis="x")
    axes.set_axisbelow(True)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    legend_over(axes, ncols=2)
    return figure


@TOPIC.figure(
    caption="Samples above their nearest training images, in pixels and in features (figures 12 and 15 of the paper). "
    "A copy would look the same as the image below it.",
    alt="Samples above their nearest training images in pixels and in features",
)
def unet_neighbours(inputs: Inputs) -> Figure:
    n, n_first = len(inputs.samples), inputs.n_first
    return image_table(
        torch.cat((inputs.samples, inputs.by_pixel, inputs.by_feature)),
        n,
        title=f"Nearest training images: {inputs.label}",
        note="Figures 12 and 15 of Ho et al. 2020. Left: the first samples. Right: those closest to a training image, "
        "where copies would show. Above each: its distance in pixels to the nearest training image, divided by the "
        "mean distance to the 50 nearest; 0 is a copy.",
        xlabel=f"the first {n_first} samples, then the {n - n_first} closest to a training image",
        ylabel="sample and neighbours",
        columns=[f"{value:.2f}" for value in inputs.closeness.tolist()],
        rows=["sample", "nearest\nin pixels", "nearest\nin features"],
        column_breaks=[n_first],
    )
