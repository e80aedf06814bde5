"""Stage evaluate_unet: how good the U-Net's samples are, beside as many real images that go through the same."""

import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from ddpm.run import compute
from ddpm.evaluation.classifier import describe, load_classifier
from ddpm.evaluation.inception import WEIGHTS_SHA256, describe_inception, load_inception
from ddpm.evaluation.metrics import fid
from ddpm.evaluation.quality import beside_floor, check_samples, class_histogram, copies, label_accuracy, scores
from ddpm.run.files import load_tensors, write_csv, write_json
from ddpm.run.stage import Stage, run_stage
from ddpm.run.seeding import derive_seed, generator

WEIGHTS = Path("models/classifier.safetensors")
SAMPLES = Path("samples/unet.safetensors")
SPLITS = {split: Path(f"data/fashion_mnist/{split}.safetensors") for split in ("train", "test")}
REPORTS = Path("reports/evaluate_unet")


def main(stage: Stage) -> None:
    params, seed = stage.params.evaluate_unet, derive_seed(stage.params.seed, "evaluate_unet")
    device = compute.set_up(stage.params.device, stage.params.precision, stage.params.threads)
    tensors = load_tensors(SAMPLES)
    samples = tensors["samples"]
    train, test = (load_tensors(path) for path in SPLITS.values())
    held_out = {name: tensor[-params.n_held_out :] for name, tensor in train.items()}
    reference, real = (test, held_out) if params.reference == "test" else (held_out, test)
    check_samples(samples, params.n_samples, tuple(test["images"].shape[1:]))
    classifier, extractor = load_classifier(WEIGHTS)
    classifier.to(device.device)
    weights = params.inception_weights
    inception = None if weights is None else load_inception(Path(weights)).to(device.device)
    for path in (WEIGHTS, SAMPLES, *SPLITS.values()):
        stage.run.log_input(path, "evaluation")

    chosen = torch.randperm(len(real["images"]), generator=generator(seed, "floor"))[: params.n_samples]
    sets = samples[: params.n_samples], real["images"][chosen], reference["images"]
    made, floor, references = (describe(classifier, images) for images in sets)
    known = describe(classifier, train["images"][: params.n_train])

    found = dict(scores(made, floor, references, params.n_halves, seed))
    if "labels" in tensors:
        asked = tensors["labels"][: params.n_samples], real["labels"][chosen]
        found["label_accuracy_fashion_cnn"] = label_accuracy(made, floor, *asked, params.n_halves, seed)
    nearest = {}
    for space, kind in {"pixel": "pixels", "fashion_cnn": "features"}.items():
        ours, real_ones, unseen, seen = (getattr(described, kind) for described in (made, floor, references, known))
        nearest[space] = copies(ours, real_ones, unseen, seen, params.duplicate_quantile, params.n_halves, seed)
        found[f"duplicates_{space}"] = nearest[space].rate
    facts = {"n_samples": params.n_samples, "reference": params.reference, "extractor": extractor}
    if inception:
        ours, real_ones, unseen = (describe_inception(inception, images, device) for images in sets)
        found["fid_inception"] = beside_floor(partial(fid, unseen), ours, real_ones, params.n_halves, seed)
        facts["extractor_inception"] = WEIGHTS_SHA256[: len(extractor)]
    context = f"N = {params.n_samples:,}, against {params.reference} ({len(references.classes):,})"
    for name, score in found.items():
        by = facts["extractor_inception" if name == "fid_inception" else "extractor"]
        logging.info("%s: %s, floor %s (%s, %s)", name, score.samples, score.floor, context, by)

    # Two numbers a metric for DVC's tables; the rest, with the intervals, beside them.
    values = {name: score.samples.value for name, score in found.items()}
    floors = {f"{name}_floor": score.floor.value for name, score in found.items()}
    write_json(REPORTS / "metrics.json", values | floors)
    write_json(
        REPORTS / "scores.json",
        {
            **facts,
            **{name: asdict(score) for name, score in found.items()},
            **{f"duplicate_threshold_{space}": copied.threshold for space, copied in nearest.items()},
        },
    )
    columns = ("class", "samples", "low", "high", "reference_seen", "reference_labels")
    rows = class_histogram(made, references, reference["labels"], params.n_halves, seed)
    write_csv(REPORTS / "class_histogram.csv", columns, rows)
    for space, copied in nearest.items():
        table = {name: column.tolist() for name, column in asdict(copied.nearest).items()}
        write_csv(REPORTS / f"neighbours_{space}.csv", table, zip(*table.values(), strict=True))
    stage.run.set_tags({name: str(fact) for name, fact in facts.items()})
    stage.run.log_metrics(values | floors, 0)
    for path in sorted(REPORTS.iterdir()):
        stage.run.log_artifact(path)


if __name__ == "__main__":
    run_stage("evaluate_unet", main, reads=("seed", "device", "precision", "threads", "evaluate_unet"))
