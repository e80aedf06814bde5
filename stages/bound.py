"""Stage bound: the code length of clothes under the U-Net (equation 5), and what is known of them on the way."""

import logging
from collections.abc import Mapping, Sequence
from math import hypot
from pathlib import Path
from typing import Any

from ddpm.run import compute
from ddpm.errors import UserError
from ddpm.evaluation.bound import Bound, variational_bound
from ddpm.run.files import load_tensors, write_csv, write_json
from ddpm.images import from_uint8, normalize_img
from ddpm.diffusion.model import labels_of
from ddpm.networks.checkpoint import load_model
from ddpm.run.stage import Stage, run_stage
from ddpm.run.resume.context import Resume, determinants
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import derive_seed
from ddpm.run.tracking.record import flatten

MODEL = Path("models/unet.safetensors")
SPLITS = {split: Path(f"data/fashion_mnist/{split}.safetensors") for split in ("train", "test")}
REPORTS = Path("reports/bound")


def main(stage: Stage) -> None:
    params, seed = stage.params.bound, derive_seed(stage.params.seed, "bound")
    device = compute.set_up(stage.params.device, stage.params.precision, stage.params.threads)
    model, _ = load_model(MODEL)
    data = {split: load_tensors(path) for split, path in SPLITS.items()}
    for split, path in SPLITS.items():
        n, *shape = data[split]["images"].shape
        if model.img_shape != tuple(shape):
            raise UserError(f"{MODEL}: makes images of shape {model.img_shape}; {path} has {tuple(shape)}")
        if params.n_images > n:
            raise UserError(f"params.yaml: bound.n_images is {params.n_images}; {path} holds {n} images")
    for path in (MODEL, *SPLITS.values()):
        stage.run.log_input(path, "bound")

    model.to(device.device)
    chosen = {split: {name: tensor[: params.n_images] for name, tensor in data[split].items()} for split in SPLITS}
    with Resume("bound", determinants("bound", stage.params, device), params.checkpoint_seconds) as resume:
        pieces = Pieces(resume)
        by_split = {
            split: variational_bound(
                model,
                tensors["images"],
                params.variances,
                derive_seed(seed, split),
                device,
                params.clip_sample,
                params.batch_size,
                params.stride,
                labels_of(model, normalize_img(from_uint8(tensors["images"])), tensors["labels"]),
                pieces.within(split),
            )
            for split, tensors in chosen.items()
        }
        report(by_split, stage)


def report(by_split: Mapping[str, Mapping[str, Bound]], stage: Stage) -> None:
    """Write what was found as metrics, tables and the curves of figure 5, and log it."""
    params, found = stage.params.bound, dict[str, Any]()
    for variance in params.variances:
        train, test = (by_split[split][variance] for split in SPLITS)
        found[variance] = compared(train, test)
        logging.info("%s: train %s, test %s", variance, in_words(train), in_words(test))
    metrics = {
        variance: {
            split: {**measures, "bits_per_dim": measures["bits_per_dim"]["value"]} for split, measures in table.items()
        }
        for variance, table in found.items()
    }
    write_json(REPORTS / "metrics.json", metrics)
    facts = {"n_images": params.n_images, "stride": params.stride}
    table = rate_distortion(by_split["test"][params.variances[0]])
    write_json(REPORTS / "bound.json", {**facts, "variances": found, "rate_distortion": table})
    for split, bounds in by_split.items():
        write_csv(REPORTS / f"{split}.csv", *by_step(bounds))
    stage.run.log_metrics(dict(flatten(metrics)), 0)
    for path in sorted(REPORTS.iterdir()):
        stage.run.log_artifact(path)


def compared(train: Bound, test: Bound) -> dict[str, dict[str, Any]]:
    """The bound with its interval and its parts on both splits, and what the test split has on top."""
    gap = {part: value - train.parts[part] for part, value in test.parts.items()}
    return {
        "train": measured(train.parts, train.margin),
        "test": measured(test.parts, test.margin),
        "gap": measured(gap, hypot(train.margin, test.margin)),
    }


def measured(parts: Mapping[str, float], margin: float) -> dict[str, Any]:
    total = sum(parts.values())
    return {"bits_per_dim": {"value": total, "low": total - margin, "high": total + margin}, **parts}


def by_step(bounds: Mapping[str, Bound]) -> tuple[list[str], list[tuple[float, ...]]]:
    """Columns and rows of a table, t = 0 to T: the distortion, and with each variance L_t and the rate."""
    distortion = [0.0, *next(iter(bounds.values())).distortion.tolist()]
    columns = ["t", "distortion"]
    values: list[Sequence[float]] = [range(len(distortion)), distortion]
    for variance, bound in bounds.items():
        columns += [f"L_{variance}", f"rate_{variance}"]
        values += [bound.means.tolist(), bound.rate.tolist()]
    return columns, list(zip(*values, strict=True))


def rate_distortion(bound: Bound) -> list[dict[str, float]]:
    """The paper's table 4: rate and distortion at some t, from T down to 1."""
    rate, distortion = bound.rate.tolist(), bound.distortion.tolist()
    steps = {max(1, round(share / 10 * len(distortion))) for share in range(11)}
    return [{"t": t, "rate": rate[t], "distortion": distortion[t - 1]} for t in sorted(steps, reverse=True)]


def in_words(bound: Bound) -> str:
    return f"{bound.bits_per_dim:.3f} +- {bound.margin:.3f} bits/dim"


if __name__ == "__main__":
    run_stage("bound", main, reads=("seed", "device", "precision", "threads", "bound"))
