"""What stage evaluate of a door that reads text does: how good samples are, and how true to their captions."""

import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ddpm.captions.adherence import adherence
from ddpm.captions.vocabulary import captions
from ddpm.data.dataset import ImageDataset
from ddpm.evaluation.captioned import adherence_scores, as_values, part_of
from ddpm.evaluation.classifier import describe, load_classifier
from ddpm.evaluation.evaluate import all_scores, as_metrics, as_report, compare
from ddpm.run.files import write_json
from ddpm.run.stage import StageRun


def evaluate_prompted(
    stage: StageRun, drawn: Mapping[str, Tensor], splits: Mapping[str, ImageDataset], classifier: Path, reports: Path
) -> None:
    """Judge samples of captions of held-out images; write adherence.json, scores.json and metrics.json.

    Args:
        stage: Its section is an `EvaluateUnet`.
        drawn: samples, and what `Prompts` holds.
        splits: Of the data set.
        classifier: Its file.
        reports: The folder to write to.
    """
    params, seen, labels = stage.params, drawn["seen"], splits["held_out"].labels
    judge, _ = load_classifier(classifier)
    assert labels is not None
    assert judge is not None  # else there would be no captions
    true = adherence(drawn["samples"], captions(drawn["tokens"]), describe(judge, drawn["samples"]).classes)
    adheres = {
        name: adherence_scores(part_of(true, chosen), params.n_halves, stage.seed)
        for name, chosen in {"seen": seen, "withheld": ~seen}.items()
    }
    asked = {"samples": drawn["samples"][seen], "labels": labels[drawn["images"][seen]]}
    comparison, facts = compare(params, asked, splits, classifier, stage.seed, stage.compute)
    scores = all_scores(comparison)
    whole = {f"adherence_{name}": found["whole"].value for name, found in adheres.items()}
    logging.info("%s", ", ".join(f"{name} captions: {found['whole']} adhere" for name, found in adheres.items()))
    write_json(reports / "adherence.json", {name: as_values(found) for name, found in adheres.items()})
    write_json(reports / "scores.json", as_report(scores, comparison, facts))
    write_json(reports / "metrics.json", as_metrics(scores) | whole)
    stage.log.log_metrics({f"samples/{name}": value for name, value in {**as_metrics(scores), **whole}.items()}, 0)
