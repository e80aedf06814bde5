"""Stage evaluate: how good samples are beside real images, and how true they are to their captions."""

from pathlib import Path
from typing import Literal

from ddpm.data.dataset import SPLITS, load_dataset
from ddpm.evaluation.captioned import evaluate_captioned
from ddpm.evaluation.evaluate import EvaluateUnet
from ddpm.evaluation.metric import METRICS
from ddpm.run.files import load_tensors, write_json
from ddpm.run.stage import Stage, StageRun, run

DATA = {split: f"../../data/images/{split}.safetensors" for split in SPLITS}
SAMPLES = {name: f"samples/{name}.safetensors" for name in ("super", "base")}
CLASSIFIER, PROMPTS = "../../models/classifier.safetensors", "data/prompts.safetensors"
REPORTS = {name: f"reports/evaluate/{name}.json" for name in ("adherence", "scores", "metrics")}


class EvaluateCascade(EvaluateUnet):
    """Section `evaluate`. of: whose samples are judged; those of "base" can be if it draws whole images."""

    of: Literal["super", "base"]


def main(stage: StageRun) -> None:
    samples = load_tensors(Path(SAMPLES[stage.params.of]))["samples"]
    prompts = {name: rows[: len(samples)] for name, rows in load_tensors(Path(PROMPTS)).items()}
    splits = {split: load_dataset(Path(path)) for split, path in DATA.items()}
    found = evaluate_captioned(stage.params, samples, prompts, splits, Path(CLASSIFIER), stage.seed, stage.compute)
    for name, path in REPORTS.items():
        write_json(Path(path), found[name])
    stage.log.log_metrics({f"samples/{name}": value for name, value in found["metrics"].items()}, 0)


STAGES = {
    "evaluate": Stage(
        main,
        section=EvaluateCascade,
        deps=[*DATA.values(), CLASSIFIER, PROMPTS, *SAMPLES.values()],
        entries=[METRICS.module(name) for name in METRICS],
        outs=[*REPORTS.values()],
    )
}

if __name__ == "__main__":
    run(STAGES)
