"""Stage page: reports/index.html, what all other stages made on one page."""

from pathlib import Path

from ddpm.doors.page import page_stage
from ddpm.figures.imagen import TOPIC
from ddpm.run.stage import run

ABOUT = (
    "A text encoder learns from text alone and stays as it is; a base model draws small images of captions, and a "
    "super-resolution model enlarges them (Saharia et al. 2022)."
)
SCORES = {"samples": Path("reports/evaluate/scores.json")}
STAGES = page_stage("imagen", ABOUT, TOPIC, SCORES, Path("reports/evaluate/adherence.json"))

if __name__ == "__main__":
    run(STAGES)
