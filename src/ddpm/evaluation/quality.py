"""Sample quality: every metric of a model's samples, and of as many real images that go through the same.

The real images' values are the floor: what a perfect model would get.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Integer, Shaped, UInt8
from torch import Tensor

from ddpm.errors import UserError
from ddpm.evaluation.classifier import CLASSES, Described
from ddpm.evaluation.metrics import Estimate, class_distance, estimate, fid, frequencies, kid, precision, recall
from ddpm.evaluation.neighbours import Neighbours, duplicate_rate, neighbours
from ddpm.run.seeding import generator


@dataclass(frozen=True)
class Scores:
    """One metric: of the samples, and of as many real images."""

    samples: Estimate
    floor: Estimate


@dataclass(frozen=True)
class Copies:
    """Nearest training images of the samples, in one space; at most `threshold` close counts as a duplicate."""

    nearest: Neighbours
    threshold: float
    rate: Scores


def check_samples(samples: UInt8[Tensor, "n c h w"], n_samples: int, img_shape: tuple[int, ...]) -> None:
    """UserError where `samples` are not of `img_shape`, or are not those that params.yaml speaks of now."""
    if n_samples > len(samples):
        raise UserError(
            f"params.yaml: evaluate_unet.n_samples is {n_samples}, but samples/unet.safetensors holds {len(samples)}; "
            "run `dvc repro` to draw more"
        )
    if tuple(samples.shape[1:]) != img_shape:
        raise UserError(
            f"samples/unet.safetensors: images of shape {tuple(samples.shape[1:])}; FashionMNIST has {img_shape}"
        )


def beside_floor(
    score: Callable[[Tensor], float],
    samples: Shaped[Tensor, "n *rest"],
    floor: Shaped[Tensor, "n *rest"],
    n_halves: int,
    seed: int,
) -> Scores:
    """`score` of what was made of the samples and of as many real images, each with its interval."""
    return Scores(*(estimate(score, points, n_halves, seed) for points in (samples, floor)))


def scores(
    samples: Described, floor: Described, reference: Described, n_halves: int, seed: int
) -> Iterator[tuple[str, Scores]]:
    """Each metric against `reference`, by a name that says what it is measured with.

    Precision and recall take as many reference images as samples (Kynkaanniemi et al. 2019), chosen at random.
    """
    chosen = torch.randperm(len(reference.features), generator=generator(seed, "reference"))[: len(samples.features)]
    equal = reference.features[chosen]
    of_features = {
        "fid": partial(fid, reference.features),
        "kid": partial(kid, reference.features, seed=seed),
        "precision": partial(precision, equal),
        "recall": partial(recall, equal),
    }
    for name, score in of_features.items():
        yield f"{name}_fashion_cnn", beside_floor(score, samples.features, floor.features, n_halves, seed)
    distance = partial(class_distance, frequencies(reference.classes, len(CLASSES)))
    yield "class_distance_fashion_cnn", beside_floor(distance, samples.classes, floor.classes, n_halves, seed)


def label_accuracy(
    samples: Described,
    floor: Described,
    asked: Integer[Tensor, " n"],
    labels: Integer[Tensor, " n"],
    n_halves: int,
    seed: int,
) -> Scores:
    """Share of the samples that the classifier takes for the class that was `asked` for.

    The floor is the classifier's accuracy on the real images, whose true `labels` are known: no floor in the literal
    sense, for a model that only makes typical clothes can score higher.
    """
    made, real = (samples.classes == asked).double(), (floor.classes == labels).double()
    return beside_floor(lambda hits: hits.mean().item(), made, real, n_halves, seed)


def copies(
    samples: Tensor, floor: Tensor, reference: Tensor, train: Tensor, quantile: float, n_halves: int, seed: int
) -> Copies:
    """Duplicates of `train` among `samples`, by distance between points: pixels or features, (n, d) each.

    The threshold is the `quantile` of closeness among the reference, real images that are not in `train`.
    """
    threshold = neighbours(reference, train).closeness.quantile(quantile).item()
    nearest, real = neighbours(samples, train), neighbours(floor, train)
    rate = beside_floor(partial(duplicate_rate, threshold), nearest.closeness, real.closeness, n_halves, seed)
    return Copies(nearest, threshold, rate)


def class_histogram(
    samples: Described, reference: Described, labels: UInt8[Tensor, " m"], n_halves: int, seed: int
) -> Iterator[tuple[str, float, float, float, float, float]]:
    """For each class: name, share of the samples with its interval, and shares of the reference: seen, and true."""
    seen = frequencies(reference.classes, len(CLASSES)).tolist()
    true = frequencies(labels.long(), len(CLASSES)).tolist()
    for number, name in enumerate(CLASSES):
        share = estimate(lambda hits: hits.mean().item(), (samples.classes == number).double(), n_halves, seed)
        yield name, share.value, share.low, share.high, seen[number], true[number]
