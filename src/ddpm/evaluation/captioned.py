"""How well samples match their captions, with confidence intervals."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor

from ddpm.captions.adherence import Adherence, adherence
from ddpm.captions.attributes import NAMES
from ddpm.captions.vocabulary import captions
from ddpm.data.dataset import ImageDataset
from ddpm.evaluation.classifier import describe, load_classifier
from ddpm.evaluation.estimate import Estimate, estimate, share
from ddpm.evaluation.evaluate import EvaluateUnet, all_scores, as_metrics, as_report, compare
from ddpm.run.compute import Compute


def evaluate_captioned(
    params: EvaluateUnet,
    samples: UInt8[Tensor, "n c h w"],
    prompts: Mapping[str, Shaped[Tensor, "n *rest"]],
    splits: Mapping[str, ImageDataset],
    classifier_path: Path,
    seed: int,
    compute: Compute,
) -> dict[str, dict[str, Any]]:
    """Sample quality, and how well samples match their captions.

    Args:
        params: Section `evaluate`.
        samples: 8-bit samples.
        prompts: For each sample, the token IDs of its caption ("tokens"), the index of the held-out image that the
            caption describes ("images"), and whether the caption has no withheld pair ("seen"). Only samples of "seen"
            captions are compared with real images.
        splits: The data, with labels.
        classifier_path: Path of the classifier.
        seed: Seed of the intervals and all random choices.
        compute: Device and precision.

    Returns:
        JSON values. "adherence": of the samples for "seen" and "withheld" captions, and of the images that the captions
        describe, "seen_floor" and "withheld_floor". "scores": the output of `as_report`. "metrics": a summary of both.
    """
    held_out, seen, texts = splits["held_out"][prompts["images"]], prompts["seen"], captions(prompts["tokens"])
    assert held_out.labels is not None  # else there would be no captions
    adheres = {}
    for end, found in caption_adherence({"": samples, "_floor": held_out.images}, texts, classifier_path).items():
        for name, chosen in (("seen", seen), ("withheld", ~seen)):
            adheres[name + end] = adherence_scores(part_of(found, chosen))
    logging.info("%s", ", ".join(f"{name} captions: {found['whole']} adhere" for name, found in adheres.items()))
    asked = {"samples": samples[seen], "labels": held_out.labels[seen]}
    comparison, facts = compare(params, asked, splits, classifier_path, seed, compute)
    scores = all_scores(comparison)
    return {
        "adherence": {name: as_values(found) for name, found in adheres.items()},
        "scores": as_report(scores, comparison, facts),
        "metrics": as_metrics(scores) | {f"adherence_{name}": found["whole"].value for name, found in adheres.items()},
    }


def caption_adherence(
    sets: Mapping[str, UInt8[Tensor, "n c h w"]], texts: Sequence[str], classifier_path: Path
) -> dict[str, Adherence]:
    """Which parts of the captions `texts` each set of images matches, by the set's name."""
    classifier, _ = load_classifier(classifier_path)
    return {name: adherence(images, texts, describe(classifier, images).classes) for name, images in sets.items()}


def adherence_scores(found: Adherence) -> dict[str, Estimate]:
    """Shares of samples that match the whole caption, the class, and each attribute that the caption mentions."""
    said = {name: found.shown[found.said[:, column], column] for column, name in enumerate(NAMES)}
    groups = {
        "whole": found.whole,
        "class": found.item,
        **{name: right for name, right in said.items() if len(right)},
    }
    return {name: share(right) for name, right in groups.items()}


def mean(values: Float[Tensor, " n"], rounds: int, seed: int) -> Estimate:
    """The mean of some values with its interval, from `rounds` half-samples."""
    return estimate(lambda some: some.mean().item(), values.double(), rounds, seed)


def part_of(found: Adherence, chosen: Bool[Tensor, " n"]) -> Adherence:
    """The adherence of some of the images."""
    return Adherence(*(rows[chosen] for rows in found))


def as_values(scores: Mapping[str, Estimate]) -> dict[str, Any]:
    """Estimates as JSON values."""
    return {name: asdict(found) for name, found in scores.items()}
