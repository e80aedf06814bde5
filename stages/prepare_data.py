"""Stage prepare_data: download and check the U-Net's data set, and split it."""

import logging
from pathlib import Path

from ddpm.data.dataset import SPLITS, Data, save_dataset, split
from ddpm.data.findings import findings
from ddpm.run.files import write_json
from ddpm.run.stage import Stage, StageRun, run

PATHS = {name: f"data/images/{name}.safetensors" for name in SPLITS}
REPORT = "reports/prepare_data/data.json"


def main(stage: StageRun) -> None:
    splits = split(stage.params)
    for name, dataset in splits.items():
        save_dataset(Path(PATHS[name]), dataset)
    found = findings(splits, stage.params.source.notes)
    for note in found["notes"]:
        logging.warning("%s", note)
    write_json(Path(REPORT), found)


STAGES = {"prepare_data": Stage(main, section=Data, key="data", general=(), outs=[*PATHS.values(), REPORT])}

if __name__ == "__main__":
    run(STAGES)
