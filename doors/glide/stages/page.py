"""Stage page: reports/index.html, what all other stages made on one page."""

from pathlib import Path

from ddpm.doors.page import page_stage
from ddpm.figures.glide import TOPIC
from ddpm.run.stage import run

ABOUT = (
    "A U-Net draws what a caption says: a text transformer is trained with it, and guidance sharpens the caption's "
    "influence. Trained further, it fills holes (Nichol et al. 2021)."
)
SCORES = {"samples": Path("reports/evaluate/scores.json")}
STAGES = page_stage("glide", ABOUT, TOPIC, SCORES, Path("reports/evaluate/adherence.json"))

if __name__ == "__main__":
    run(STAGES)
