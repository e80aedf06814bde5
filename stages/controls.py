"""Stage controls: does each metric tell images with a known defect from real ones?"""

import logging
from pathlib import Path

from ddpm.data.dataset import SPLITS, load_dataset
from ddpm.evaluation.classifier import load_classifier
from ddpm.evaluation.controls import ControlsParams, judge, missed
from ddpm.evaluation.metric import METRICS
from ddpm.run.files import write_json
from ddpm.run.stage import Stage, StageRun, run

CLASSIFIER, REPORT = "models/classifier.safetensors", Path("reports/controls/controls.json")
DATA = {split: f"data/images/{split}.safetensors" for split in SPLITS}


def main(stage: StageRun) -> None:
    splits = {split: load_dataset(Path(path)) for split, path in DATA.items()}
    classifier, _ = load_classifier(Path(CLASSIFIER))
    report = judge(stage.params, splits, classifier, stage.seed)
    if unseen := missed(report):
        logging.warning("controls that metrics should distinguish from real images but do not: %s", ", ".join(unseen))
    write_json(REPORT, report)
    stage.log.log_metrics({"missed": len(unseen)}, 0)


STAGES = {
    "controls": Stage(
        main,
        section=ControlsParams,
        deps=[*DATA.values(), CLASSIFIER],
        entries=[METRICS.module(name) for name in METRICS],
        outs=[str(REPORT)],
    )
}

if __name__ == "__main__":
    run(STAGES)
