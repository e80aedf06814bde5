"""Stage evaluate: how good samples are beside real images, and how true they are to their captions."""

from pathlib import Path

from ddpm.data.dataset import SPLITS, load_dataset
from ddpm.evaluation.captioned import evaluate_captioned
from ddpm.evaluation.evaluate import EvaluateUnet
from ddpm.evaluation.metric import METRICS
from ddpm.run.files import load_tensors, write_json
from ddpm.run.stage import Stage, StageRun, run

DATA = {split: f"../../data/images/{split}.safetensors" for split in SPLITS}
CLASSIFIER, SAMPLES = "../../models/classifier.safetensors", "samples/captions.safetensors"
REPORTS = {name: f"reports/evaluate/{name}.json" for name in ("adherence", "scores", "metrics")}


def main(stage: StageRun) -> None:
    drawn, splits = load_tensors(Path(SAMPLES)), {split: load_dataset(Path(path)) for split, path in DATA.items()}
    found = evaluate_captioned(
        stage.params, drawn["samples"], drawn, splits, Path(CLASSIFIER), stage.seed, stage.compute
    )
    for name, path in REPORTS.items():
        write_json(Path(path), found[name])
    stage.log.log_metrics({f"samples/{name}": value for name, value in found["metrics"].items()}, 0)


STAGES = {
    "evaluate": Stage(
        main,
        section=EvaluateUnet,
        deps=[*DATA.values(), CLASSIFIER, SAMPLES],
        entries=[METRICS.module(name) for name in METRICS],
        outs=[*REPORTS.values()],
    )
}

if __name__ == "__main__":
    run(STAGES)
