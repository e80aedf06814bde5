"""Stage prepare_data: the splits of the data set that the U-Net learns, fetched and checked."""

from pathlib import Path

from ddpm.data.dataset import SPLITS, Data, save_dataset, split
from ddpm.run.stage import Stage, StageRun, run

PATHS = {name: f"data/images/{name}.safetensors" for name in SPLITS}


def main(stage: StageRun) -> None:
    for name, dataset in split(stage.params).items():
        save_dataset(Path(PATHS[name]), dataset)


STAGES = {"prepare_data": Stage(main, section=Data, key="data", general=(), outs=list(PATHS.values()))}

if __name__ == "__main__":
    run(STAGES)
