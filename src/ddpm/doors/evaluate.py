"""Stage evaluate of a text-conditional door: sample quality, and how well samples match their captions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ddpm.captions.prompts import Prompts
from ddpm.data.dataset import SPLITS, load_dataset
from ddpm.evaluation.captioned import evaluate_captioned
from ddpm.evaluation.evaluate import EvaluateUnet
from ddpm.evaluation.metric import METRICS
from ddpm.run.files import load_tensors, write_json
from ddpm.run.stage import Stage, StageRun

DATA = {split: f"../../data/images/{split}.safetensors" for split in SPLITS}
CLASSIFIER, SAMPLES = "../../models/classifier.safetensors", "samples/captions.safetensors"
REPORTS = {name: f"reports/evaluate/{name}.json" for name in ("adherence", "scores", "metrics")}


def samples_and_prompts(_: EvaluateUnet) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The samples and their prompts, from the file that holds both."""
    drawn = load_tensors(Path(SAMPLES))
    return drawn["samples"], {name: drawn[name] for name in Prompts._fields}


def evaluate_stage(
    read: Callable[[Any], tuple[Tensor, Mapping[str, Tensor]]] = samples_and_prompts,
    files: Sequence[str] = (SAMPLES,),
    section: type[EvaluateUnet] = EvaluateUnet,
) -> dict[str, Stage]:
    """The stage that writes reports/evaluate/.

    Args:
        read: Returns the samples and the `prompts` of `evaluate_captioned`, given the stage's params.
        files: The files that `read` reads.
        section: The class of section `evaluate`.
    """

    def main(stage: StageRun) -> None:
        samples, prompts = read(stage.params)
        splits = {split: load_dataset(Path(path)) for split, path in DATA.items()}
        found = evaluate_captioned(stage.params, samples, prompts, splits, Path(CLASSIFIER), stage.seed, stage.compute)
        for name, path in REPORTS.items():
            write_json(Path(path), found[name])
        stage.log.log_metrics({f"samples/{name}": value for name, value in found["metrics"].items()}, 0)

    deps, entries = [*DATA.values(), CLASSIFIER, *files], [METRICS.module(name) for name in METRICS]
    return {"evaluate": Stage(main, section=section, deps=deps, entries=entries, outs=[*REPORTS.values()])}
