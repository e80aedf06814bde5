"""Stage evaluate: how good samples are beside real images, and how true they are to their captions."""

import logging
from pathlib import Path
from typing import Literal

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
SAMPLES = {name: f"samples/{name}.safetensors" for name in ("super", "base")}
CLASSIFIER, PROMPTS, REPORTS = (
    "../../models/classifier.safetensors",
    "data/prompts.safetensors",
    Path("reports/evaluate"),
)


class EvaluateCascade(EvaluateUnet):
    """Section `evaluate`. of: whose samples are judged; those of "base" can be if it draws whole images."""

    of: Literal["super", "base"]


def main(stage: StageRun) -> None:
    params, splits = stage.params, {split: load_dataset(Path(path)) for split, path in DATA.items()}
    samples = load_tensors(Path(SAMPLES[params.of]))["samples"]
    prompts = {name: rows[: len(samples)] for name, rows in load_tensors(Path(PROMPTS)).items()}
    held_out, seen, texts = splits["held_out"][prompts["images"]], prompts["seen"], captions(prompts["tokens"])
    classifier, _ = load_classifier(Path(CLASSIFIER))
    assert held_out.labels is not None  # else there would be no captions
    drawn, real = (
        adherence(images, texts, describe(classifier, images).classes) for images in (samples, held_out.images)
    )
    groups = {"seen": part_of(drawn, seen), "withheld": part_of(drawn, ~seen), "real": real}
    adheres = {name: adherence_scores(found, params.n_halves, stage.seed) for name, found in groups.items()}
    asked = {"samples": samples[seen], "labels": held_out.labels[seen]}
    comparison, facts = compare(params, asked, splits, Path(CLASSIFIER), stage.seed, stage.compute)
    scores = all_scores(comparison)
    whole = {f"adherence_{name}": found.whole.double().mean().item() for name, found in groups.items()}
    metrics = as_metrics(scores) | whole
    logging.info("%s", whole)
    write_json(REPORTS / "adherence.json", {name: as_values(found) for name, found in adheres.items()})
    write_json(REPORTS / "scores.json", as_report(scores, comparison, facts))
    write_json(REPORTS / "metrics.json", metrics)
    stage.log.log_metrics({f"samples/{name}": value for name, value in metrics.items()}, 0)


STAGES = {
    "evaluate": Stage(
        main,
        section=EvaluateCascade,
        deps=[*DATA.values(), CLASSIFIER, PROMPTS, *SAMPLES.values()],
        entries=[METRICS.module(name) for name in METRICS],
        outs=[f"{REPORTS}/{name}.json" for name in ("adherence", "scores", "metrics")],
    )
}

if __name__ == "__main__":
    run(STAGES)
