"""Stage embed: the CLIP embeddings of the training and held-out images."""

from pathlib import Path

from ddpm.clip.embed import embed_images, space_of
from ddpm.clip.model import load_clip
from ddpm.run.files import save_tensors
from ddpm.run.stage import Stage, StageRun, run
from ddpm.training.captioned import CAPTIONED, load_captioned

CLIP, EMBEDDINGS = (
    "models/clip.safetensors",
    [f"data/embeddings/{split}.safetensors" for split in ("train", "held_out")],
)


def main(stage: StageRun) -> None:
    clip = load_clip(Path(CLIP)).to(stage.compute.device)
    for path, split in zip(EMBEDDINGS, load_captioned(), strict=True):
        save_tensors(Path(path), embeddings=embed_images(clip, split.images.images), space=space_of(clip))


STAGES = {"embed": Stage(main, deps=[*CAPTIONED, CLIP], outs=EMBEDDINGS)}

if __name__ == "__main__":
    run(STAGES)
