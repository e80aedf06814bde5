"""Stage evaluate_unet: compare samples with real images by every metric."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from pydantic import model_validator
from torch import Tensor

from ddpm.data.dataset import FEWEST, ImageDataset
from ddpm.errors import UserError
from ddpm.evaluation.classifier import N_FEATURES, describe, load_classifier
from ddpm.evaluation.estimate import Scores, share
from ddpm.evaluation.inception import WEIGHTS_SHA256, describe_inception, load_inception
from ddpm.evaluation.metric import METRICS, Comparison, Described, frequencies
from ddpm.evaluation.two_sample import HEADLINE
from ddpm.run.compute import Compute
from ddpm.run.params import PathName, Section
from ddpm.run.processes import shared
from ddpm.run.root import from_root
from ddpm.run.seeding import generator

LEAST_SAMPLES = 2 * (N_FEATURES + 1)  # so that the feature covariance of half of the samples has full rank
LEAST_INCEPTION_SAMPLES = 2 * (2048 + 1)  # the same for Inception's features
SPACES: dict[str, Literal["pixels", "features"]] = {"pixel": "pixels", "classifier": "features"}


class Judging(Section):
    """Settings of the metrics, for samples and controls. The metrics are distributed over processes."""

    n_halves: Annotated[int, Ge(2), Le(10_000)]
    duplicate_quantile: Annotated[float, Gt(0), Lt(1)]
    epochs: Annotated[int, Ge(1), Le(1000)]

    @property
    def most_processes(self) -> int:
        """About one per metric."""
        return len(METRICS)


class EvaluateUnet(Judging):
    """Section `evaluate_unet`. n_samples: null for the number of samples, or of unseen images if there are fewer."""

    n_samples: Annotated[int, Ge(FEWEST), Le(10_000)] | None
    reference: Literal["test", "held_out"]
    inception_weights: PathName | None

    @model_validator(mode="after")
    def _covariances_have_images(self) -> "EvaluateUnet":
        if self.inception_weights is not None and (self.n_samples or LEAST_INCEPTION_SAMPLES) < LEAST_INCEPTION_SAMPLES:
            raise ValueError(
                f"n_samples is {self.n_samples}; with inception_weights it must be at least {LEAST_INCEPTION_SAMPLES}, "
                "so that half of the images have a covariance of 2048 features"
            )
        return self


def compare(
    params: EvaluateUnet,
    samples: Mapping[str, Tensor],
    splits: Mapping[str, ImageDataset],
    classifier: Path,
    seed: int,
    compute: Compute,
) -> tuple[Comparison, dict[str, Any]]:
    """Extract the features of samples, as many real images, the reference and the training images.

    Args:
        params: The number of samples, the reference split and the settings of the metrics.
        samples: "samples", 8-bit, and "labels" if they are class-conditional.
        splits: "train", "held_out" and "test". The reference is one of the last two, and the other gives the floor.
        classifier: Path of the classifier.
        seed: Seed of the choice of real images and of the intervals.
        compute: Device and precision.

    Returns:
        The comparison, and the facts that its scores depend on: n_samples, reference, extractors.

    Raises:
        UserError: The samples do not fit the params or the data, or a file is missing or not the expected one.
    """
    images, labels, test = samples["samples"], samples.get("labels"), splits["test"]
    reference = splits[params.reference]
    others = splits["held_out" if params.reference == "test" else "test"]
    most = min(len(images), len(others), len(reference))
    n = params.n_samples or most
    if n > most:
        raise UserError(
            f"params.yaml: evaluate_unet.n_samples is {n}; there are {len(images)} samples and {len(others)} and "
            f"{len(reference)} unseen images to compare them with, so it can be at most {most}"
        )
    if tuple(images.shape[1:]) != test.img_shape:
        raise UserError(f"the samples have shape {tuple(images.shape[1:])}; the data set has {test.img_shape}")
    model, extractor = load_classifier(classifier)
    model.to(compute.device)
    facts = {"n_samples": n, "reference": params.reference, "extractor": extractor}
    inception = None
    if params.inception_weights is not None:
        inception = load_inception(from_root(params.inception_weights)).to(compute.device)
        facts["extractor_inception"] = WEIGHTS_SHA256[: len(extractor)]

    real = others[torch.randperm(len(others), generator=generator(seed, "floor"))[:n]]
    sets = ImageDataset(images[:n], None if labels is None else labels[:n]), real, reference

    def described(dataset: ImageDataset) -> Described:
        found = describe(model, dataset.images, dataset.labels)
        if inception is None:
            return found
        return replace(found, inception=describe_inception(inception, dataset.images, compute))

    made, floor, references = map(described, sets)
    train = describe(model, splits["train"].images)
    numbers = params.n_halves, params.duplicate_quantile, params.epochs, seed
    return Comparison(made, floor, references, train, len(test.class_names), *numbers), facts


def all_scores(comparison: Comparison) -> dict[str, Scores]:
    """The scores of all metrics that apply, by name."""
    sides = comparison.samples, comparison.real
    tasks = [partial(metric.score, comparison, images) for metric in METRICS.values() for images in sides]
    found = shared(tasks, "metrics")
    pairs = zip(METRICS, found[::2], found[1::2], strict=True)
    return {name: Scores(samples, floor) for name, samples, floor in pairs if samples is not None and floor is not None}


def headline(scores: Mapping[str, Scores], side: Literal["samples", "floor"] = "samples") -> str:
    """The name of the two-sample test with the highest AUC on the samples, or on the real images of the floor."""
    tests = (name for name in scores if METRICS[name].headline == HEADLINE)
    return max(tests, key=lambda name: getattr(scores[name], side).value)


def headlines(metrics: Mapping[str, float]) -> dict[str, float]:
    """The headline metrics by their short names, from the output of `as_metrics`."""
    found: dict[str, float] = {}
    for name, metric in METRICS.items():
        if metric.headline and name in metrics:
            worse = min if metric.better == "higher" else max
            found[metric.headline] = worse(metrics[name], found.get(metric.headline, metrics[name]))
    return found


def as_metrics(scores: Mapping[str, Scores]) -> dict[str, float]:
    """The content of metrics.json: each metric of the samples, and its floor.

    `worst_auc` is the highest AUC on the samples, and `worst_auc_floor` the highest on real images.
    """
    worst = Scores(scores[headline(scores)].samples, scores[headline(scores, "floor")].floor)
    named = {**scores, "worst_auc": worst}
    values = {name: found.samples.value for name, found in named.items()}
    return values | {f"{name}_floor": found.floor.value for name, found in named.items()}


def as_report(scores: Mapping[str, Scores], comparison: Comparison, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The content of scores.json: metrics with intervals, direction and description, and the facts they depend on."""
    metrics = {
        name: {**asdict(found), "better": METRICS[name].better, "sees": METRICS[name].sees}
        for name, found in scores.items()
    }
    thresholds = {f"duplicate_threshold_{name}": comparison.copies(space).threshold for name, space in SPACES.items()}
    worst = {"headline": headline(scores), "headline_real": headline(scores, "floor")}
    return {**facts, **thresholds, **worst, "metrics": metrics}


def class_histogram(
    comparison: Comparison, class_names: tuple[str, ...]
) -> Iterator[tuple[str, float, float, float, float, float]]:
    """For each class: name, share of the samples with interval, and predicted and true share of the reference."""
    reference, n = comparison.reference, comparison.n_classes
    if reference.labels is None:
        return
    seen, true = frequencies(reference.classes, n).tolist(), frequencies(reference.labels, n).tolist()
    for number, name in enumerate(class_names):
        found = share(comparison.samples.classes == number)
        yield name, found.value, found.low, found.high, seen[number], true[number]


def neighbour_table(comparison: Comparison, space: str) -> tuple[list[str], Iterator[tuple[int | float, ...]]]:
    """Columns and rows of neighbours_SPACE.csv: each sample's nearest training image."""
    nearest = comparison.copies(SPACES[space]).nearest
    table = {name: column.tolist() for name, column in asdict(nearest).items()}
    return list(table), zip(*table.values(), strict=True)
