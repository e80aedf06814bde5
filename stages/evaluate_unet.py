"""Stage evaluate_unet: the quality of the U-Net's samples, compared with as many real images."""

import logging
from pathlib import Path

from ddpm.data.dataset import SPLITS, load_dataset
from ddpm.evaluation.evaluate import (
    SPACES,
    EvaluateUnet,
    all_scores,
    as_metrics,
    as_report,
    class_histogram,
    compare,
    neighbour_table,
)
from ddpm.evaluation.metric import METRICS
from ddpm.run.files import load_tensors, write_csv, write_json
from ddpm.run.stage import Stage, StageRun, run

CLASSIFIER, SAMPLES = "models/classifier.safetensors", "samples/unet.safetensors"
REPORTS = Path("reports/evaluate_unet")
DATA = {split: f"data/images/{split}.safetensors" for split in SPLITS}
HISTOGRAM = "class", "samples", "low", "high", "reference_seen", "reference_labels"


def main(stage: StageRun) -> None:
    splits = {split: load_dataset(Path(path)) for split, path in DATA.items()}
    samples = load_tensors(Path(SAMPLES))
    comparison, facts = compare(stage.params, samples, splits, Path(CLASSIFIER), stage.seed, stage.compute)
    scores = all_scores(comparison)
    for name, found in scores.items():
        logging.info("%s: %s, floor %s", name, found.samples, found.floor)
    logging.info("%s", ", ".join(f"{name} {fact}" for name, fact in facts.items()))
    metrics = as_metrics(scores)
    write_json(REPORTS / "metrics.json", metrics)
    write_json(REPORTS / "scores.json", as_report(scores, comparison, facts))
    write_csv(REPORTS / "class_histogram.csv", HISTOGRAM, class_histogram(comparison, splits["test"].class_names))
    for space in SPACES:
        write_csv(REPORTS / f"neighbours_{space}.csv", *neighbour_table(comparison, space))
    stage.log.set_tags({name: str(fact) for name, fact in facts.items()})
    sides = (("samples", ""), ("real", "_floor"))
    stage.log.log_metrics({f"{side}/{name}": metrics[f"{name}{end}"] for side, end in sides for name in scores}, 0)


STAGES = {
    "evaluate_unet": Stage(
        main,
        section=EvaluateUnet,
        deps=[*DATA.values(), CLASSIFIER, SAMPLES],
        entries=[METRICS.module(name) for name in METRICS],
        outs=[
            *(f"{REPORTS}/{name}" for name in ("metrics.json", "scores.json", "class_histogram.csv")),
            *(f"{REPORTS}/neighbours_{space}.csv" for space in SPACES),
        ],
    )
}

if __name__ == "__main__":
    run(STAGES)
