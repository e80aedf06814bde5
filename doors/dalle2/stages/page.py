"""Stage page: reports/index.html, the results of all other stages on one page."""

from pathlib import Path

from ddpm.doors.page import page_stage
from ddpm.figures.dalle2 import TOPIC
from ddpm.run.stage import run

ABOUT = (
    "CLIP embeds images and captions in one space. A prior samples an image embedding for a caption, and a decoder "
    "samples images from embeddings: images for captions, and variations of images (Ramesh et al. 2022)."
)
FILMS = {"Decoder": Path("samples/captions.safetensors")}
SCORES = {"samples": Path("reports/evaluate/scores.json")}
STAGES = page_stage("dalle2", ABOUT, TOPIC, FILMS, SCORES, Path("reports/evaluate/adherence.json"))

if __name__ == "__main__":
    run(STAGES)
