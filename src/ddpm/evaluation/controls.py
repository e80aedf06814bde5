"""Controls: images with a known defect. Metrics that are sensitive to it must tell them from real images.

A control is a function of unseen images, training images, a seed and n that returns n images.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from jaxtyping import UInt8
from torch import Tensor

from ddpm.data.dataset import FEWEST, ImageDataset
from ddpm.evaluation.classifier import Classifier, describe
from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.evaluate import LEAST_SAMPLES, Judging
from ddpm.evaluation.metric import METRICS, Comparison
from ddpm.evaluation.patches import pyramid
from ddpm.images import from_uint8, to_uint8
from ddpm.run.processes import shared
from ddpm.run.seeding import derive_seed, generator

N_CLUSTERS, ITERATIONS = 1000, 5
OF_EACH = 50  # minimum mean number of training images per cluster
KEPT = 0.1  # fraction of class 0 that `class_missing` keeps
BLACK = 0.05  # minimum fraction of pixels at 0 for `ground` to apply
DARKER = 0.9
NOISE = 0.1  # standard deviation, as a fraction of the range

Images = UInt8[Tensor, "n c h w"]
Control = Callable[[ImageDataset, ImageDataset, int, int], Images]
CONTROLS: dict[str, Control] = {}
DEFECTS: dict[str, str] = {}


def control(defect: str) -> Callable[[Control], Control]:
    """Decorator: register a function as a control, with a description of its defect for tables."""

    def add(function: Control) -> Control:
        CONTROLS[function.__name__], DEFECTS[function.__name__] = function, defect
        return function

    return add


class ControlsParams(Judging):
    """Section `controls`. n_images: maximum per control. n_train: maximum of training images to search for copies."""

    n_images: Annotated[int, Ge(LEAST_SAMPLES), Le(10_000)]
    n_train: Annotated[int, Ge(2), Le(10_000_000)]


@control("real images")
def real(unseen: ImageDataset, _: ImageDataset, seed: int, n: int) -> Images:
    return unseen.images[torch.randperm(len(unseen), generator=generator(seed, "real"))[:n]]


@control("half of the finest detail removed")
def half_detail(unseen: ImageDataset, train: ImageDataset, seed: int, n: int) -> Images:
    images = real(unseen, train, seed, n)
    return to_uint8(from_uint8(images) - pyramid(images)[0] / 2)


@control("blurred by half a pixel")
def blurred(unseen: ImageDataset, train: ImageDataset, seed: int, n: int) -> Images:
    from torchvision.transforms.functional import gaussian_blur  # takes as long to import as torch

    return to_uint8(gaussian_blur(from_uint8(real(unseen, train, seed, n)), [3, 3], [0.5, 0.5]))


@control("a 2x2 grid of two grey levels added")
def grid(unseen: ImageDataset, train: ImageDataset, seed: int, n: int) -> Images:
    images = real(unseen, train, seed, n).to(torch.int16)
    images[..., ::2, ::2] += 2
    return images.clamp(max=255).to(torch.uint8)


@control("a background of 2 instead of 0")
def ground(unseen: ImageDataset, train: ImageDataset, seed: int, n: int) -> Images:
    return real(unseen, train, seed, n).clamp(min=2)


@control("a tenth darker")
def darker(unseen: ImageDataset, train: ImageDataset, seed: int, n: int) -> Images:
    return to_uint8(from_uint8(real(unseen, train, seed, n)) * DARKER)


@control("noise with a standard deviation of a tenth of the range")
def noisy(unseen: ImageDataset, train: ImageDataset, seed: int, n: int) -> Images:
    images = from_uint8(real(unseen, train, seed, n))
    return to_uint8(images + NOISE * torch.randn(images.shape, generator=generator(seed, "noise")))


@control("cluster means of training images")
def cluster_means(_: ImageDataset, train: ImageDataset, seed: int, n: int) -> Images:
    from scipy.cluster.vq import kmeans2  # slow to import

    points, stream = train.images.flatten(1).float().numpy(), derive_seed(seed, "clusters")
    k = min(N_CLUSTERS, max(2, len(points) // OF_EACH))  # a mean of one image would be a copy
    means, _nearest = kmeans2(points, k, iter=ITERATIONS, minit="points", rng=stream)
    chosen = torch.randint(len(means), (n,), generator=generator(seed, "means"))
    return torch.from_numpy(means).round().clamp(0, 255).to(torch.uint8)[chosen].unflatten(1, train.img_shape)


@control("90 % of one class missing")
def class_missing(unseen: ImageDataset, train: ImageDataset, seed: int, n: int) -> Images:
    assert unseen.labels is not None
    kept = torch.rand(len(unseen), generator=generator(seed, "kept")) < KEPT
    return real(unseen[(unseen.labels != 0) | kept], train, seed, n)


@control("training images")
def copies(_: ImageDataset, train: ImageDataset, seed: int, n: int) -> Images:  # noqa: ARG001
    return train.images[:n]  # the first ones, which are among those searched for copies


def applicable(unseen: ImageDataset) -> list[str]:
    """Names of the applicable controls. `class_missing` needs class 0 and enough others, and `ground` black pixels."""
    others = 0 if unseen.labels is None else int((unseen.labels != 0).sum())
    left_out = set[str]()
    if not FEWEST <= others < len(unseen):
        left_out.add(class_missing.__name__)
    if (unseen.images == 0).float().mean() < BLACK:
        left_out.add(ground.__name__)
    return [name for name in CONTROLS if name not in left_out]


def judge(
    params: ControlsParams, splits: dict[str, ImageDataset], classifier: Classifier, seed: int
) -> dict[str, dict[str, Any]]:
    """Score controls with the metrics that must tell them from real images, and real images with all metrics.

    Args:
        params: Number of images, and settings of the metrics.
        splits: "train", "held_out" and "test". Real images and most controls are from "held_out", and "test" is the
            reference.
        classifier: The feature extractor.
        seed: Seed of all randomness.

    Returns:
        For each control, "defect" (its description) and "metrics". For each metric, the value with its interval,
        "floor", "seen" (whether the metric tells the control from real images) and "must" (whether it has to).
    """
    train, unseen = splits["train"], splits["held_out"]
    n = min(params.n_images, params.n_train, *map(len, splits.values()))
    sets = (ImageDataset(real(unseen, train, derive_seed(seed, "floor"), n)), splits["test"], train[: params.n_train])
    floor, reference, known = (describe(classifier, split.images, split.labels) for split in sets)
    n_classes = len(train.class_names)
    numbers = params.n_halves, params.duplicate_quantile, params.epochs, seed
    base = Comparison(floor, floor, reference, known, n_classes, *numbers)

    @cache
    def comparison_of(name: str) -> Comparison:
        return replace(base, samples=describe(classifier, CONTROLS[name](unseen, train, seed, n)))

    def score(name: str, key: str) -> Estimate | None:
        comparison = comparison_of(name)
        return METRICS[key].score(comparison, comparison.samples)

    floors = dict(zip(METRICS, shared([partial(each.score, base, floor) for each in METRICS.values()]), strict=True))
    names = applicable(unseen)
    cells = [
        (name, key)
        for name in names
        for key, each in METRICS.items()
        # Only where required: two-sample tests that detect nothing would cost minutes.
        if floors[key] is not None and (name in each.catches or name == real.__name__)
    ]
    report: dict[str, dict[str, Any]] = {name: {"defect": DEFECTS[name], "metrics": {}} for name in names}
    scores = shared([partial(score, *cell) for cell in cells], "controls")
    for (name, key), found in zip(cells, scores, strict=True):
        if found is not None and (real_images := floors[key]) is not None:
            is_seen = METRICS[key].tells(found, real_images)
            facts = {"floor": real_images.value, "seen": is_seen, "must": name in METRICS[key].catches}
            report[name]["metrics"][key] = vars(found) | facts
    return report


def missed(report: dict[str, dict[str, Any]]) -> list[str]:
    """ "METRIC: CONTROL" for each control that a metric must tell from real images but does not."""
    return [
        f"{metric}: {control}"
        for control, entry in report.items()
        for metric, found in entry["metrics"].items()
        if found["must"] and not found["seen"]
    ]
