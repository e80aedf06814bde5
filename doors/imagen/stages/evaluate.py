"""Stage evaluate: sample quality, and how well samples match their captions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor

from ddpm.doors.evaluate import evaluate_stage
from ddpm.evaluation.evaluate import EvaluateUnet
from ddpm.run.files import load_tensors
from ddpm.run.stage import run

SAMPLES = {name: f"samples/{name}.safetensors" for name in ("super", "base")}
PROMPTS = "data/prompts.safetensors"


class EvaluateCascade(EvaluateUnet):
    """Section `evaluate`. of: the model to evaluate. "base" is allowed only if it draws images at full resolution."""

    of: Literal["super", "base"]


def read(params: EvaluateCascade) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The samples of one of the models, and their prompts."""
    samples = load_tensors(Path(SAMPLES[params.of]))["samples"]
    return samples, {name: rows[: len(samples)] for name, rows in load_tensors(Path(PROMPTS)).items()}


STAGES = evaluate_stage(read, [PROMPTS, *SAMPLES.values()], EvaluateCascade)

if __name__ == "__main__":
    run(STAGES)
