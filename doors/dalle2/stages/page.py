"""Stage page: reports/index.html, what all other stages made on one page."""

from pathlib import Path

from ddpm.doors.page import page_stage
from ddpm.figures.dalle2 import TOPIC
from ddpm.run.stage import run

ABOUT = (
    "A CLIP gives images and captions embeddings in one space. A prior draws an image embedding of a caption, and a "
    "decoder draws images of embeddings: of captions, and variations of images (Ramesh et al. 2022)."
)
SCORES = {"samples": Path("reports/evaluate/scores.json")}
STAGES = page_stage("dalle2", ABOUT, TOPIC, SCORES, Path("reports/evaluate/adherence.json"))

if __name__ == "__main__":
    run(STAGES)
