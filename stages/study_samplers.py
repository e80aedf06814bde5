"""Stage study_samplers: every sampler, noise schedule and T with the exact denoiser of gradient images."""

from pathlib import Path

from ddpm.data.dataset import load_dataset
from ddpm.exact.bound import BOUND_COLUMNS, bound_rows
from ddpm.exact.quality import corner_error_floor, entropy
from ddpm.exact.study import ERROR_COLUMNS, StudySamplers, exact_denoiser, sampler_error
from ddpm.run.files import write_csv, write_json
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import generator
from ddpm.run.stage import Stage, StageRun, run

HELD_OUT, REPORTS = "data/gradients/held_out.safetensors", Path("reports/study_samplers")


def main(stage: StageRun) -> None:
    params, around = stage.params, (stage.seed, stage.compute, Pieces(stage.resume))
    gradients = load_dataset(Path(HELD_OUT))
    shape = channels, height, width = gradients.img_shape
    write_csv(REPORTS / "sampler_error.csv", ERROR_COLUMNS, sampler_error(shape, params, *around))
    images = gradients[: params.n_bound]
    exact = [(schedule, exact_denoiser(shape, schedule, T, stage.compute)) for schedule, T in params.chains]
    rows = (row for schedule, model in exact for row in bound_rows("exact", schedule, model, images, *around))
    write_csv(REPORTS / "bound.csv", BOUND_COLUMNS, rows)
    floor = corner_error_floor(params.n_samples * channels, generator(stage.seed, "floor"))
    metrics = {"samples_floor": floor, "entropy": entropy(height, width)}
    write_json(REPORTS / "metrics.json", metrics)
    stage.log.log_metrics({f"exact/{name}": value for name, value in metrics.items()}, 0)


STAGES = {
    "study_samplers": Stage(
        main,
        section=StudySamplers,
        deps=[HELD_OUT],
        outs=[f"{REPORTS}/{name}" for name in ("metrics.json", "sampler_error.csv", "bound.csv")],
        resumes=True,
    )
}

if __name__ == "__main__":
    run(STAGES)
