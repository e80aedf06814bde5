"""Stage download_fashion_mnist: the four original files, checked, and tensors of their images and labels."""

from pathlib import Path

from ddpm.data.datasets.fashion_mnist import fetch, read_images, read_labels
from ddpm.run.files import save_tensors
from ddpm.run.stage import Stage, run_stage

FOLDER = Path("data/fashion_mnist")
PREFIXES = {"train": "train", "test": "t10k"}


def main(stage: Stage) -> None:
    params = stage.params.download_fashion_mnist
    folder = None if params.folder is None else Path(params.folder)
    source = fetch(FOLDER / "raw", folder, params.timeout)
    stage.run.set_tags({"source": source})
    for split, prefix in PREFIXES.items():
        path = FOLDER / f"{split}.safetensors"
        save_tensors(
            path,
            images=read_images(FOLDER / "raw" / f"{prefix}-images-idx3-ubyte.gz"),
            labels=read_labels(FOLDER / "raw" / f"{prefix}-labels-idx1-ubyte.gz"),
        )
        stage.run.log_input(path, split)


if __name__ == "__main__":
    run_stage("download_fashion_mnist", main, reads=("download_fashion_mnist",))
