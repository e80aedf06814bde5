"""Stage encode: the latents of the training and held-out images."""

from pathlib import Path

from ddpm.data.dataset import load_dataset
from ddpm.latent.autoencoder import encode_images, load_autoencoder
from ddpm.run.files import save_tensors
from ddpm.run.stage import Stage, StageRun, run

SPLITS = "train", "held_out"
WEIGHTS = "models/autoencoder.safetensors"
IMAGES, LATENTS = (
    {split: f"{folder}/{split}.safetensors" for split in SPLITS} for folder in ("../../data/images", "data/latents")
)


def main(stage: StageRun) -> None:
    model = load_autoencoder(Path(WEIGHTS)).to(stage.compute.device)
    for split in SPLITS:
        images = load_dataset(Path(IMAGES[split])).images
        save_tensors(Path(LATENTS[split]), latents=encode_images(model, images, stage.seed, stage.compute))


STAGES = {"encode": Stage(main, deps=[WEIGHTS, *IMAGES.values()], outs=[*LATENTS.values()])}

if __name__ == "__main__":
    run(STAGES)
