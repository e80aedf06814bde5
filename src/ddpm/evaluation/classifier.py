"""A small classifier of the data set, trained by the pipeline, whose features score the samples.

Inception's features (Heusel et al. 2017) are trained on photographs of 299x299 pixels. These are trained on the
classes that samples should belong to, or without labels, on rotations (`ddpm.evaluation.rotation`). Scores are only
comparable for the same features and weights.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import cos, pi
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Float, Int64, Integer, UInt8
from pydantic import model_validator
from safetensors import safe_open
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from ddpm.data.dataset import ImageDataset
from ddpm.errors import UserError
from ddpm.evaluation.metric import Described
from ddpm.evaluation.rotation import N_TURNS, rotated
from ddpm.images import from_uint8, normalize_img
from ddpm.run.compute import Compute
from ddpm.run.files import load_tensors, write_tensors
from ddpm.run.params import Section
from ddpm.run.processes import shared
from ddpm.run.resume.context import Resume
from ddpm.run.resume.state import TrainingState
from ddpm.run.seeding import generator
from ddpm.training.gradients import BatchGradient, check_micro_batches
from ddpm.training.steps import take_steps

N_FEATURES = 128
BATCH = 512  # images per batch outside training
N_STATISTICS = 10_000  # training images for the statistics of BatchNorm


class TrainClassifier(Section):
    """Section `train_classifier`."""

    batch_size: Annotated[int, Ge(2), Le(10_000)]
    micro_batches: Annotated[int, Ge(1), Le(1024)]
    epochs: Annotated[int, Ge(1), Le(1000)]
    lr: Annotated[float, Gt(0), Le(10)]
    weight_decay: Annotated[float, Ge(0), Le(1)]
    label_smoothing: Annotated[float, Ge(0), Lt(1)]
    max_shift: Annotated[int, Ge(0), Lt(64)]

    @property
    def most_processes(self) -> int:
        """One per micro-batch."""
        return self.micro_batches

    @model_validator(mode="after")
    def _batch_can_be_cut(self) -> "TrainClassifier":
        check_micro_batches(self.micro_batches, self.batch_size)
        return self


@dataclass(frozen=True)
class ClassifierConfig:
    """Shape of a `Classifier`.

    Attributes:
        channels: Channels of the images.
        n_classes: Number of classes of the data set, or `N_TURNS` without labels.
    """

    channels: int
    n_classes: int


class ConvBlock(nn.Sequential):
    """3x3 convolution, BatchNorm, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
        )


class Residual(nn.Module):
    """Two ConvBlocks and a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(ConvBlock(channels, channels), ConvBlock(channels, channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.blocks(x)


class Classifier(nn.Module):
    """A residual network on 2x2 patches, at a half, a quarter and an eighth of the image size."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.features = nn.Sequential(
            nn.PixelUnshuffle(2),
            ConvBlock(4 * config.channels, 32),
            Residual(32),
            ConvBlock(32, 64, stride=2),
            Residual(64),
            ConvBlock(64, N_FEATURES, stride=2),
            Residual(N_FEATURES),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(N_FEATURES, config.n_classes)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Logits of images in [-1, 1]."""
        return self.head(self.features(even_sized(images)))


def even_sized(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    """Images padded with black (-1) to an even height and width."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, width % 2, 0, height % 2), value=-1) if height % 2 or width % 2 else images


def describe(
    model: Classifier, images: UInt8[Tensor, "n c h w"], labels: Integer[Tensor, " n"] | None = None
) -> Described:
    """Features and predicted classes of images, on the CPU.

    Always computed in float32, so that distances do not depend on the training precision.

    Args:
        model: A classifier in eval mode, on any device.
        images: 8-bit images.
        labels: The true classes of real images, or the requested classes of samples.
    """
    found = shared([partial(_features_and_classes, model, batch) for batch in images.split(BATCH)])
    features, classes = (torch.cat(column) for column in zip(*found, strict=True))
    return Described(images, features, classes, labels)


def _features_and_classes(
    model: Classifier, images: UInt8[Tensor, "b c h w"]
) -> tuple[Float[Tensor, "b f"], Integer[Tensor, " b"]]:
    with torch.no_grad():
        features = model.features(even_sized(normalize_img(from_uint8(images.to(model.head.weight.device)))))
        return features.cpu(), model.head(features).argmax(dim=1).cpu()


def accuracy(model: Classifier, dataset: ImageDataset) -> float:
    """The share of images whose class is predicted, or without labels, of images in all rotations."""
    images, labels = dataset.images, dataset.labels
    if labels is None:
        labels = torch.arange(N_TURNS).repeat_interleave(len(images))
        images = rotated(images.repeat(N_TURNS, 1, 1, 1), labels)
    return (describe(model, images).classes == labels).double().mean().item()


def save_classifier(path: Path, model: Classifier) -> None:
    """Write the weights, and the config in the header."""
    write_tensors(path, model.state_dict(), {"config": json.dumps(asdict(model.config), sort_keys=True)})


def load_classifier(path: Path) -> tuple[Classifier, str]:
    """Read a file that `save_classifier` wrote.

    Returns:
        The classifier, in eval mode and without gradients, and the truncated SHA-256 of the file as its identifier.

    Raises:
        UserError: The file is missing, damaged, or not a classifier.
    """
    weights = load_tensors(path)
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads((file.metadata() or {})["config"])
        model = Classifier(ClassifierConfig(**values))
        model.load_state_dict(weights)
    except (RuntimeError, KeyError, TypeError, ValueError):
        raise UserError(f"{path}: not a classifier of this version; delete it and run `dvc repro`") from None
    with path.open("rb") as file:
        return model.eval().requires_grad_(False), hashlib.file_digest(file, "sha256").hexdigest()[:12]


def fit_classifier(
    model: nn.Module,
    params: TrainClassifier,
    dataset: ImageDataset,
    seed: int = 0,
    compute: Compute = Compute(),
    resume: Resume | None = None,
) -> list[tuple[int, float]]:
    """Train `model` in place and leave it in eval mode.

    SGD with Nesterov momentum, a one-cycle learning rate (Smith & Topin 2017), label smoothing (Szegedy et al. 2015)
    and random shifts. BatchNorm uses the statistics of a micro-batch. Its running statistics are computed at the end.

    Args:
        model: A new classifier.
        params: The hyper-parameters.
        dataset: 8-bit images. Without labels, `model` is trained to predict their rotations.
        seed: Seed of all randomness, together with the step.
        compute: Device and precision.
        resume: Saves the state to disk, so that an interrupted run resumes with bit-identical results.

    Returns:
        (step, mean loss) for each epoch.

    Raises:
        UserError: Training diverged. `resume` keeps the state before that step.
    """
    model.to(compute.device).to(memory_format=torch.channels_last).train()
    labels = None if dataset.labels is None else dataset.labels.to(compute.device).long()
    dataset = replace(dataset, images=dataset.images.to(compute.device), labels=labels)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, nesterov=True, weight_decay=params.weight_decay)
    gradient = BatchGradient(model.parameters(), params.batch_size)

    def lr(done: int, total: int) -> float:
        return one_cycle(done, total, params.lr)

    def loss_of(step: int, chosen: Int64[Tensor, "b"]) -> float:
        images, targets = _examples(dataset[chosen.to(compute.device)], seed, step)
        x = normalize_img(from_uint8(shifted(images, params.max_shift, generator(seed, "shift", step))))
        losses_of = partial(_losses_of_part, model, x, targets, params.label_smoothing, compute)
        return gradient(len(chosen), params.micro_batches, losses_of).mean().item()

    state = TrainingState({"model": model}, [optimizer])
    losses = take_steps("train classifier", state, len(dataset), params, lr, loss_of, seed, resume)
    images, _ = _examples(dataset[:N_STATISTICS], seed)
    update_bn((normalize_img(from_uint8(batch)) for batch in images.split(BATCH)), model)
    model.eval()
    return losses


def _examples(
    dataset: ImageDataset, seed: int, step: int = 0
) -> tuple[UInt8[Tensor, "b c h w"], Integer[Tensor, " b"]]:
    """Images and their labels, or without labels, randomly rotated images and their numbers of quarter turns."""
    if dataset.labels is not None:
        return dataset.images, dataset.labels
    turns = torch.randint(N_TURNS, (len(dataset),), generator=generator(seed, "turns", step)).to(dataset.images.device)
    return rotated(dataset.images, turns), turns


def _losses_of_part(
    model: nn.Module,
    images: Float[Tensor, "b c h w"],
    labels: Integer[Tensor, " b"],
    label_smoothing: float,
    compute: Compute,
    _: int,
    part: slice,
) -> Float[Tensor, " p"]:
    with compute.autocast():
        logits = model(images[part])
    return F.cross_entropy(logits.float(), labels[part], label_smoothing=label_smoothing, reduction="none")


def one_cycle(done: int, total: int, highest: float) -> float:
    """The learning rate after `done` of `total` steps: from highest / 25 up to highest, then down to highest / 250,000.

    Both parts are half a cosine, and the first takes a fifth of the steps.
    """
    lowest, top = highest / 25, max(0.0, 0.2 * total - 1)
    if done < top:
        start, end, share = lowest, highest, done / top
    else:
        start, end, share = highest, lowest / 10_000, (done - top) / max(1.0, total - 1 - top)
    return end + (start - end) / 2 * (cos(pi * share) + 1)


def shifted(images: UInt8[Tensor, "b c h w"], most: int, stream: torch.Generator) -> UInt8[Tensor, "b c h w"]:
    """Each image randomly shifted by up to `most` pixels horizontally and vertically, padded with black."""
    b, _, h, w = images.shape
    windows = F.pad(images, [most] * 4).unfold(2, h, 1).unfold(3, w, 1)
    down, across = torch.randint(2 * most + 1, (2, b), generator=stream).to(images.device)
    return windows[torch.arange(b, device=images.device), :, down, across]
