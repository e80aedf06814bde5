"""Stage generate_gradients: the toy data, a training and an evaluation set."""

from pathlib import Path

from ddpm.data.gradients import gradient_images
from ddpm.run.files import save_tensors
from ddpm.run.stage import Stage, run_stage
from ddpm.run.seeding import generator


def main(stage: Stage) -> None:
    params = stage.params.generate_gradients
    channels, height, width = params.img_shape
    for split, count in (("train", params.n_train), ("eval", params.n_eval)):
        stream = generator(stage.params.seed, f"gradients/{split}")
        path = Path(f"data/gradients/{split}.safetensors")
        save_tensors(path, images=gradient_images(count, (channels, height, width), stream))
        stage.run.log_input(path, split)


if __name__ == "__main__":
    run_stage("generate_gradients", main, reads=("seed", "generate_gradients"))
