"""Stage shrink: the images of the data set at the base model's resolution."""

from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le

from ddpm.data.dataset import SPLITS, load_dataset, save_dataset
from ddpm.data.pooling import pooled_dataset
from ddpm.run.params import Section
from ddpm.run.stage import Stage, StageRun, run


class Shrink(Section):
    """Section `shrink`. factor: side of the averaged blocks in pixels. 1 keeps the full resolution."""

    factor: Annotated[int, Ge(1), Le(64)]


IMAGES = {split: f"../../data/images/{split}.safetensors" for split in SPLITS}
SMALL = {split: f"data/{split}.safetensors" for split in ("train", "held_out")}


def main(stage: StageRun) -> None:
    for split, path in SMALL.items():
        save_dataset(Path(path), pooled_dataset(load_dataset(Path(IMAGES[split])), stage.params.factor))


STAGES = {
    "shrink": Stage(main, section=Shrink, general=(), deps=[IMAGES[split] for split in SMALL], outs=[*SMALL.values()])
}

if __name__ == "__main__":
    run(STAGES)
