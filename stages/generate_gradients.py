"""Stage generate_gradients: the toy data, for training and evaluation."""

from pathlib import Path

from ddpm.data.dataset import ImageDataset, save_dataset
from ddpm.data.gradients import GenerateGradients, gradient_images
from ddpm.run.seeding import generator
from ddpm.run.stage import Stage, StageRun, run

PATHS = {name: f"data/gradients/{name}.safetensors" for name in ("train", "held_out")}


def main(stage: StageRun) -> None:
    channels, height, width = stage.params.img_shape
    counts = {"train": stage.params.n_train, "held_out": stage.params.n_held_out}
    for name, path in PATHS.items():
        images = gradient_images(counts[name], (channels, height, width), generator(stage.seed, name))
        save_dataset(Path(path), ImageDataset(images))


STAGES = {
    "generate_gradients": Stage(main, section=GenerateGradients, general=("seed",), outs=list(PATHS.values())),
}

if __name__ == "__main__":
    run(STAGES)
