"""Stage bound: the variational bound of the U-Net (equation 5), and progressive lossy coding."""

import logging
from pathlib import Path

from ddpm.data.dataset import load_dataset
from ddpm.evaluation.rate_distortion import (
    BoundParams,
    bounds_of_splits,
    by_timestep,
    compared,
    images_of_each,
    rate_distortion,
)
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import write_csv, write_json
from ddpm.run.params import flatten
from ddpm.run.stage import Stage, StageRun, run

MODEL, REPORTS = "models/unet.safetensors", Path("reports/bound")
DATA = {split: f"data/images/{split}.safetensors" for split in ("train", "test")}


def main(stage: StageRun) -> None:
    params = stage.params
    model = load_model(MODEL).to(stage.compute.device)
    splits = {split: load_dataset(Path(path)) for split, path in DATA.items()}
    found = bounds_of_splits(stage, model, splits)
    tables = {}
    for variance in params.variances:
        train, test = found["train"][variance], found["test"][variance]
        tables[variance] = compared(train, test)
        logging.info("%s: train %s, test %s", variance, train, test)
    metrics = {
        variance: {split: {**parts, "bits_per_dim": parts["bits_per_dim"]["value"]} for split, parts in table.items()}
        for variance, table in tables.items()
    }
    write_json(REPORTS / "metrics.json", metrics)
    facts = {"n_images": images_of_each(params, splits), "stride": params.stride}
    coding = rate_distortion(found["test"][params.variances[0]])
    write_json(REPORTS / "bound.json", {**facts, "variances": tables, "rate_distortion": coding})
    for split, bounds in found.items():
        write_csv(REPORTS / f"{split}.csv", *by_timestep(bounds))
    stage.log.log_metrics({key.replace(".", "/"): value for key, value in flatten(metrics)}, 0)


STAGES = {
    "bound": Stage(
        main,
        section=BoundParams,
        deps=[*DATA.values(), MODEL],
        outs=[f"{REPORTS}/bound.json", f"{REPORTS}/metrics.json", *(f"{REPORTS}/{split}.csv" for split in DATA)],
        resumes=True,
    )
}

if __name__ == "__main__":
    run(STAGES)
