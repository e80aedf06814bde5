"""A small classifier of FashionMNIST and its features: what the distances between sets of images look at.

Inception's features (Heusel et al. 2017) were learnt from photographs of 299 by 299 pixels; these, from the very
classes that samples should belong to. Figures from other features, or from other weights, cannot be compared.
"""

import hashlib
from dataclasses import dataclass
from itertools import islice
from math import ceil
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from ddpm.compute import Compute
from ddpm.data.order import batches
from ddpm.errors import UserError
from ddpm.files import load_tensors
from ddpm.images import from_uint8, normalize_img
from ddpm.sections import TrainClassifier
from ddpm.seeding import generator

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
N_FEATURES = 128
BATCH = 512  # images at a time where nothing is learnt


class ConvBlock(nn.Sequential):
    """3x3 convolution, BatchNorm, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
        )


class Residual(nn.Module):
    """Two ConvBlocks and a skip past both."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(ConvBlock(channels, channels), ConvBlock(channels, channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.blocks(x)


class FashionCnn(nn.Module):
    """A residual network over 14x14 blocks of 2x2 pixels, then 7x7, then 4x4: most of its work is where it is cheap."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.PixelUnshuffle(2),
            ConvBlock(4, 32),
            Residual(32),
            ConvBlock(32, 64, stride=2),
            Residual(64),
            ConvBlock(64, N_FEATURES, stride=2),
            Residual(N_FEATURES),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(N_FEATURES, len(CLASSES))

    def forward(self, images: Float[Tensor, "b 1 28 28"]) -> Float[Tensor, "b classes"]:
        """images: in [-1, 1]. Returns the logits of `CLASSES`."""
        return self.head(self.features(images))


def fit_classifier(
    model: FashionCnn,
    params: TrainClassifier,
    images: UInt8[Tensor, "n 1 28 28"],
    labels: UInt8[Tensor, " n"],
    seed: int = 0,
    compute: Compute = Compute(),
) -> list[tuple[int, float]]:
    """Train `model` in place and leave it in eval mode; returns (epoch, mean loss).

    SGD with Nesterov momentum, a one-cycle learning rate (Smith & Topin 2017), label smoothing (Szegedy et al. 2015)
    and random shifts. All randomness comes from (seed, step). Raises UserError where the loss is no longer finite.
    """
    model.to(compute.device).to(memory_format=torch.channels_last).train()
    images, labels = images.to(compute.device), labels.to(compute.device).long()
    per_epoch = ceil(len(images) / params.batch_size)
    n_steps = params.epochs * per_epoch
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, nesterov=True, weight_decay=params.weight_decay)
    rise = 0.2 if n_steps != 5 else 0.3  # OneCycleLR divides by rise * n_steps - 1
    schedule = OneCycleLR(optimizer, params.lr, n_steps, pct_start=rise, cycle_momentum=False)
    history, total = [], 0.0
    order = islice(batches(len(images), params.batch_size, seed), n_steps)
    for step, chosen in enumerate(tqdm(order, "train classifier", n_steps, disable=None), start=1):
        chosen = chosen.to(compute.device)
        x = normalize_img(from_uint8(shifted(images[chosen], params.max_shift, generator(seed, "shift", step))))
        with compute.autocast():
            logits = model(x)
        loss = F.cross_entropy(logits.float(), labels[chosen], label_smoothing=params.label_smoothing)
        if not loss.isfinite():
            raise UserError(f"training diverged at step {step} of {n_steps}; lower train_classifier.lr, {params.lr}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % per_epoch == 0:
            history.append((step // per_epoch, total / per_epoch))
            total = 0.0
    model.eval()
    return history


def shifted(images: UInt8[Tensor, "b 1 h w"], most: int, stream: torch.Generator) -> UInt8[Tensor, "b 1 h w"]:
    """Each image moved by up to `most` pixels, at random, across and down; what comes into view is black."""
    b, _, h, w = images.shape
    windows = F.pad(images, [most] * 4).unfold(2, h, 1).unfold(3, w, 1)
    down, across = torch.randint(2 * most + 1, (2, b), generator=stream).to(images.device)
    return windows[torch.arange(b, device=images.device), :, down, across]


@dataclass(frozen=True)
class Described:
    """A set of images as the metrics see it: pixels in [0, 1], the classifier's features, the class it sees in each."""

    pixels: Float[Tensor, "n pixels"]
    features: Float[Tensor, "n features"]
    classes: Int64[Tensor, " n"]


def describe(model: FashionCnn, images: UInt8[Tensor, "n 1 28 28"], compute: Compute = Compute()) -> Described:
    """What `model`, in eval mode, makes of the images; on the CPU."""
    features, classes = [], []
    for batch in images.split(BATCH):
        with torch.no_grad(), compute.autocast():
            found = model.features(normalize_img(from_uint8(batch.to(compute.device))))
            classes.append(model.head(found).argmax(dim=1).cpu())
        features.append(found.float().cpu())
    return Described(from_uint8(images).flatten(1), torch.cat(features), torch.cat(classes))


def load_classifier(path: Path) -> tuple[FashionCnn, str]:
    """The classifier in `path`, in eval mode, and the SHA-256 of the file, shortened: the name of this extractor.

    Raises UserError, naming the file, where it is missing, damaged or holds another network.
    """
    weights = load_tensors(path)
    model = FashionCnn()
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise UserError(
            f"{path}: not the classifier's weights; delete it and run `dvc repro train_classifier`"
        ) from None
    with path.open("rb") as file:
        return model.eval().requires_grad_(False), hashlib.file_digest(file, "sha256").hexdigest()[:12]
