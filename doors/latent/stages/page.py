"""Stage page: reports/index.html, the results of all other stages on one page."""

from pathlib import Path

from ddpm.doors.page import page_stage
from ddpm.figures.latent import TOPIC
from ddpm.run.stage import run

ABOUT = (
    "An autoencoder compresses images to latents; a diffusion model is trained on the latents, and the decoder maps "
    "its samples to images (Rombach et al. 2022)."
)
FILMS = {"Diffusion model": Path("samples/latent.safetensors")}
SCORES = {name: Path(f"reports/evaluate/{name}.json") for name in ("samples", "reconstructions")}
STAGES = page_stage("latent", ABOUT, TOPIC, FILMS, SCORES, Path("reports/evaluate/adherence.json"))

if __name__ == "__main__":
    run(STAGES)
