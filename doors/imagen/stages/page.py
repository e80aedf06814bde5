"""Stage page: reports/index.html, the results of all other stages on one page."""

from pathlib import Path

from ddpm.doors.page import page_stage
from ddpm.figures.imagen import TOPIC
from ddpm.run.stage import run

ABOUT = (
    "A text encoder is pretrained on text and frozen; a base model samples small images for captions, and a "
    "super-resolution model upsamples them (Saharia et al. 2022)."
)
FILMS = {"Base model": Path("samples/base.safetensors"), "Super-resolution model": Path("samples/super.safetensors")}
SCORES = {"samples": Path("reports/evaluate/scores.json")}
STAGES = page_stage("imagen", ABOUT, TOPIC, FILMS, SCORES, Path("reports/evaluate/adherence.json"))

if __name__ == "__main__":
    run(STAGES)
