"""Stage evaluate: how good samples are beside real images, and how true they are to their captions."""

import logging
from pathlib import Path

from ddpm.captions.adherence import adherence
from ddpm.captions.vocabulary import captions
from ddpm.data.dataset import SPLITS, load_dataset
from ddpm.evaluation.captioned import adherence_scores, as_values, part_of
from ddpm.evaluation.classifier import describe, load_classifier
from ddpm.evaluation.evaluate import EvaluateUnet, all_scores, as_metrics, as_report, compare
from ddpm.evaluation.metric import METRICS
from ddpm.run.files import load_tensors, write_json
from ddpm.run.stage import Stage, StageRun, run

DATA = {split: f"../../data/images/{split}.safetensors" for split in SPLITS}
CLASSIFIER, SAMPLES = "../../models/classifier.safetensors", "samples/captions.safetensors"
REPORTS = Path("reports/evaluate")


def main(stage: StageRun) -> None:
    params, drawn = stage.params, load_tensors(Path(SAMPLES))
    splits = {split: load_dataset(Path(path)) for split, path in DATA.items()}
    classifier, _ = load_classifier(Path(CLASSIFIER))
    assert classifier is not None  # else there would be no captions
    seen, labels = drawn["seen"], splits["held_out"].labels
    assert labels is not None
    true = adherence(drawn["samples"], captions(drawn["tokens"]), describe(classifier, drawn["samples"]).classes)
    groups = {"seen": seen, "withheld": ~seen}
    adheres = {
        name: adherence_scores(part_of(true, chosen), params.n_halves, stage.seed) for name, chosen in groups.items()
    }
    asked = {"samples": drawn["samples"][seen], "labels": labels[drawn["images"][seen]]}
    comparison, facts = compare(params, asked, splits, Path(CLASSIFIER), stage.seed, stage.compute)
    scores = all_scores(comparison)
    whole = {f"adherence_{name}": found["whole"].value for name, found in adheres.items()}
    logging.info("%s", ", ".join(f"{name} captions: {found['whole']} adhere" for name, found in adheres.items()))
    write_json(REPORTS / "adherence.json", {name: as_values(found) for name, found in adheres.items()})
    write_json(REPORTS / "scores.json", as_report(scores, comparison, facts))
    write_json(REPORTS / "metrics.json", as_metrics(scores) | whole)
    stage.log.log_metrics({f"samples/{name}": value for name, value in {**as_metrics(scores), **whole}.items()}, 0)


STAGES = {
    "evaluate": Stage(
        main,
        section=EvaluateUnet,
        deps=[*DATA.values(), CLASSIFIER, SAMPLES],
        entries=[METRICS.module(name) for name in METRICS],
        outs=[f"{REPORTS}/{name}.json" for name in ("adherence", "scores", "metrics")],
    )
}

if __name__ == "__main__":
    run(STAGES)
