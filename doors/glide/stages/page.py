"""Stage page: reports/index.html, the results of all other stages on one page."""

from pathlib import Path

from ddpm.doors.page import page_stage
from ddpm.figures.glide import TOPIC
from ddpm.run.stage import run

ABOUT = (
    "A text-conditional U-Net: a text transformer is trained with it, and guidance strengthens the influence of the "
    "caption. Fine-tuned, it inpaints (Nichol et al. 2021)."
)
FILMS = {"Base model": Path("samples/captions.safetensors")}
SCORES = {"samples": Path("reports/evaluate/scores.json")}
STAGES = page_stage("glide", ABOUT, TOPIC, FILMS, SCORES, Path("reports/evaluate/adherence.json"))

if __name__ == "__main__":
    run(STAGES)
