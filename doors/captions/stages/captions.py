"""Stage captions: captions of all images of the data set, from rule-based attributes."""

from pathlib import Path

from ddpm.captions.split import Captions, caption_split, save_split, summary
from ddpm.data.dataset import SPLITS, load_dataset
from ddpm.figures.canvas import save
from ddpm.figures.captioned import attribute_table
from ddpm.images import from_uint8
from ddpm.run.files import write_json
from ddpm.run.stage import Stage, StageRun, run

IMAGES = {split: f"../../data/images/{split}.safetensors" for split in SPLITS}
CAPTIONS = {split: f"data/{split}.safetensors" for split in SPLITS}
SUMMARY, FIGURE = "reports/summary.json", "reports/attributes.png"


def main(stage: StageRun) -> None:
    images = {split: load_dataset(Path(path)) for split, path in IMAGES.items()}
    captions = {split: caption_split(dataset, stage.params.withheld) for split, dataset in images.items()}
    for split, path in CAPTIONS.items():
        save_split(Path(path), captions[split])
    train = images["train"]
    write_json(Path(SUMMARY), summary(captions))
    figure = attribute_table(from_uint8(train.images), captions["train"].values, stage.params.n_shown)
    save(figure, FIGURE, "Training images by what the rules measure.", "Rows of items of clothing, one row per value")


STAGES = {
    "captions": Stage(
        main,
        section=Captions,
        general=(),
        deps=[*IMAGES.values()],
        outs=[*CAPTIONS.values(), SUMMARY],
        plots=[FIGURE],
    )
}

if __name__ == "__main__":
    run(STAGES)
