"""Can a network tell samples from real images? The classifier two-sample test (Lopez-Paz & Oquab 2017).

A small network is trained to tell half of the samples from half of the real images and tested on the other halves. Then
the halves are swapped. Its AUC is the probability that it ranks a sample above a real image: 1/2 if the two cannot be
told apart. It needs no pretrained features and no labels, and can detect any difference in the pixels.
"""

from collections.abc import Callable
from itertools import islice
from math import ceil

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from ddpm.data.order import batches
from ddpm.evaluation.estimate import Estimate
from ddpm.images import from_uint8, normalize_img
from ddpm.run.seeding import derive_seed, generator, global_stream

BATCH_SIZE, LR, WEIGHT_DECAY = 64, 2e-3, 1e-2
WIDTHS = 16, 48, 96, 96
HEADLINE = "auc"  # the worst of all views, since a hyper-parameter search may overfit one of them, but hardly all

Images = UInt8[Tensor, "n c h w"]
View = Callable[[Images], Float[Tensor, "n c h w"]]


def as_they_are(images: Images) -> Float[Tensor, "n c h w"]:
    """All 256 levels, in [-1, 1]."""
    return normalize_img(from_uint8(images))


def in_16_levels(images: Images) -> Float[Tensor, "n c h w"]:
    """Rounded to 16 levels, so that a background of 1 instead of 0 is not decisive."""
    return normalize_img((images / 17).round() / 15)


def high_pass(images: Images) -> Float[Tensor, "n c h w"]:
    """What a 5x5 Gaussian blur removes: texture and edges, without shape and brightness."""
    from torchvision.transforms.functional import gaussian_blur  # takes as long to import as torch

    x = as_they_are(images)
    return x - gaussian_blur(x, [5, 5], [1.1, 1.1])


class Judge(nn.Sequential):
    """Four 3x3 convolutions with BatchNorm, all but the first with stride 2, global average pooling, and a logit."""

    def __init__(self, channels: int) -> None:
        layers: list[nn.Module] = []
        for i, width in enumerate(WIDTHS):
            before = WIDTHS[i - 1] if i else channels
            convolution = nn.Conv2d(before, width, 3, stride=2 if i else 1, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(width), nn.LeakyReLU(0.1)]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], 1), nn.Flatten(0))


def two_sample(samples: Images, real: UInt8[Tensor, "m c h w"], view: View, epochs: int, seed: int) -> Estimate:
    """The AUC of networks that are trained to tell samples from real images.

    Args:
        samples: One set of images.
        real: Another set of about the same size. Both must have at least 4 images.
        view: Transforms images to the input of the networks.
        epochs: Training epochs.
        seed: Seed of the halves, the weights and the order of the images.

    Returns:
        The mean AUC of two networks, each tested on the half of the images that the other was trained on. The 95 %
        confidence interval is DeLong's (1988). It does not include the variance from training the networks.
    """
    x = torch.cat((view(samples), view(real))).to(memory_format=torch.channels_last)
    y = torch.arange(len(x)) < len(samples)
    first_half = torch.cat((_half(len(samples), seed, "samples"), _half(len(real), seed, "real")))
    found = []
    for fold, learnt in enumerate((first_half, ~first_half)):
        judge = learn(x[learnt], y[learnt], epochs, derive_seed(seed, "fold", fold))
        with torch.no_grad():
            logits = judge(x[~learnt])
        found.append(auc(logits[y[~learnt]], logits[~y[~learnt]]))
    value = sum(value for value, _ in found) / 2
    margin = 1.96 * sum(variance for _, variance in found) ** 0.5 / 2
    return Estimate(value, value - margin, value + margin)


def learn(x: Float[Tensor, "n c h w"], y: Bool[Tensor, " n"], epochs: int, seed: int) -> Judge:
    """Train a `Judge` with AdamW and a one-cycle learning rate, and return it in eval mode.

    Args:
        x: Images.
        y: Whether each image is a sample.
        epochs: Training epochs.
        seed: Seed of the weights and the order of the images.
    """
    with global_stream(seed, "init"):
        judge = Judge(x.shape[1]).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(judge.parameters(), LR, weight_decay=WEIGHT_DECAY)
    total = epochs * ceil(len(x) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=total)
    for chosen in islice(batches(len(x), BATCH_SIZE, seed), total):
        if len(chosen) == 1:  # BatchNorm has no variance of one image
            continue
        loss = F.binary_cross_entropy_with_logits(judge(x[chosen]), y[chosen].float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return judge.eval()


def auc(samples: Float[Tensor, " n"], real: Float[Tensor, " m"]) -> tuple[float, float]:
    """The area under the ROC curve of two sets of logits, and its variance (DeLong et al. 1988, equations 4 to 8)."""
    above = (torch.sign(samples[:, None] - real).double() + 1) / 2
    by_sample, by_real = above.mean(1), above.mean(0)
    variance = by_sample.var() / len(samples) + by_real.var() / len(real)
    return above.mean().item(), variance.item()


def _half(n: int, seed: int, stream: str) -> Bool[Tensor, " n"]:
    """A random half of n images."""
    return torch.randperm(n, generator=generator(seed, stream)) < n // 2
