"""Stage evaluate: how good samples are beside real images, and how true they are to their captions."""

from pathlib import Path

from ddpm.data.dataset import SPLITS, load_dataset
from ddpm.evaluation.evaluate import EvaluateUnet
from ddpm.evaluation.metric import METRICS
from ddpm.evaluation.prompted import evaluate_prompted
from ddpm.run.files import load_tensors
from ddpm.run.stage import Stage, StageRun, run

DATA = {split: f"../../data/images/{split}.safetensors" for split in SPLITS}
CLASSIFIER, SAMPLES = "../../models/classifier.safetensors", "samples/captions.safetensors"
REPORTS = Path("reports/evaluate")


def main(stage: StageRun) -> None:
    splits = {split: load_dataset(Path(path)) for split, path in DATA.items()}
    evaluate_prompted(stage, load_tensors(Path(SAMPLES)), splits, Path(CLASSIFIER), REPORTS)


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
