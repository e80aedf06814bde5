"""Stage page: reports/index.html, what all other stages made on one page."""

from pathlib import Path

from ddpm.doors.page import page_stage
from ddpm.figures.latent import TOPIC
from ddpm.run.stage import run

ABOUT = (
    "An autoencoder makes small latents of images; a diffusion model learns the latents, and the decoder makes images "
    "of those that it draws (Rombach et al. 2022)."
)
SCORES = {name: Path(f"reports/evaluate/{name}.json") for name in ("samples", "reconstructions")}
STAGES = page_stage("latent", ABOUT, TOPIC, SCORES)

if __name__ == "__main__":
    run(STAGES)
