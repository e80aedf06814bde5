"""Stage evaluate_tiny: the tiny model compared with the exact denoiser of gradient images."""

import re
from pathlib import Path

from ddpm.data.dataset import load_dataset, to_x0_range
from ddpm.diffusion.model import schedule_of
from ddpm.exact.bound import BOUND_COLUMNS, bound_metrics, bound_rows
from ddpm.exact.comparison import EvaluateTiny, compare, quality_metrics
from ddpm.exact.denoiser import ExactDenoiser
from ddpm.exact.quality import entropy
from ddpm.exact.study import draw
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import load_tensors, write_csv, write_json
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import derive_seed
from ddpm.run.stage import Stage, StageRun, run

MODEL, HELD_OUT, SAMPLES = "models/tiny.safetensors", "data/gradients/held_out.safetensors", "samples/tiny.safetensors"
REPORTS = Path("reports/evaluate_tiny")


def main(stage: StageRun) -> None:
    params, seed, compute = stage.params, stage.seed, stage.compute
    model, gradients = load_model(MODEL).to(compute.device), load_dataset(Path(HELD_OUT))
    denoisers = {"tiny": model, "exact": ExactDenoiser(model.img_shape, schedule_of(model), "x0")}

    losses = compare(model, gradients, params.n_eval_per_step, derive_seed(stage.root_seed, "train_tiny"), compute)
    write_csv(REPORTS / "optimal_loss_by_timestep.csv", ("t", "optimal_loss"), enumerate(losses.optimal, start=1))

    around, images = (seed, compute, Pieces(stage.resume)), gradients[: params.n_bound]
    schedule = model.facts["schedule"]
    rows = [row for name, who in denoisers.items() for row in bound_rows(name, schedule, who, images, *around)]
    write_csv(REPORTS / "bound.csv", BOUND_COLUMNS, rows)

    samples = {"tiny": to_x0_range(load_tensors(Path(SAMPLES))["samples"])}
    samples["exact"] = draw(denoisers["exact"], params.n_samples, seed, compute)
    metrics = {
        **losses.metrics,
        **quality_metrics(samples, params.level, seed),
        **bound_metrics(rows),
        "entropy": entropy(*model.img_shape[1:]),
    }
    write_json(REPORTS / "metrics.json", metrics)
    stage.log.log_metrics({re.sub("^(tiny|exact)_", r"\1/", key): float(value) for key, value in metrics.items()}, 0)


STAGES = {
    "evaluate_tiny": Stage(
        main,
        section=EvaluateTiny,
        deps=[HELD_OUT, MODEL, SAMPLES],
        outs=[f"{REPORTS}/{name}" for name in ("metrics.json", "optimal_loss_by_timestep.csv", "bound.csv")],
        resumes=True,
    )
}

if __name__ == "__main__":
    run(STAGES)
