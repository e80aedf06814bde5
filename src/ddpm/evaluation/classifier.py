"""A small classifier of FashionMNIST and its features: what the distances between sets of images look at.

Inception's features (Heusel et al. 2017) were learnt from photographs of 299 by 299 pixels; these, from the very
classes that samples should belong to. Figures from other features, or from other weights, cannot be compared.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from ddpm.errors import UserError
from ddpm.run.files import load_tensors
from ddpm.images import from_uint8, normalize_img

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


@dataclass(frozen=True)
class Described:
    """A set of images as the metrics see it: pixels in [0, 1], the classifier's features, the class it sees in each."""

    pixels: Float[Tensor, "n pixels"]
    features: Float[Tensor, "n features"]
    classes: Int64[Tensor, " n"]


def describe(model: FashionCnn, images: UInt8[Tensor, "n 1 28 28"]) -> Described:
    """What `model`, in eval mode and on whatever device, makes of the images; on the CPU.

    Always in float32, so that a distance does not depend on the precision that the machine trains in.
    """
    device = model.head.weight.device
    features, classes = [], []
    for batch in images.split(BATCH):
        with torch.no_grad():
            found = model.features(normalize_img(from_uint8(batch.to(device))))
            classes.append(model.head(found).argmax(dim=1).cpu())
        features.append(found.cpu())
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
