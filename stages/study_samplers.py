"""Stage study_samplers: every sampler, noise schedule and T with the exact denoiser of gradient images."""

from itertools import chain
from pathlib import Path

from ddpm.data.dataset import load_dataset
from ddpm.exact.quality import corner_error_floor, entropy
from ddpm.exact.study import BOUND_COLUMNS, ERROR_COLUMNS, StudySamplers, bound_rows, exact_denoiser, sampler_error
from ddpm.images import to_uint8
from ddpm.run.files import write_csv, write_json
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import generator
from ddpm.run.stage import Stage, StageRun, run

HELD_OUT, REPORTS = "data/gradients/held_out.safetensors", "reports/study_samplers"


def main(stage: StageRun) -> None:
    params, seed, compute = stage.params, stage.seed, stage.compute
    gradients, pieces = load_dataset(Path(HELD_OUT)), Pieces(stage.resume)
    write_csv(
        Path(f"{REPORTS}/sampler_error.csv"),
        ERROR_COLUMNS,
        sampler_error(gradients.img_shape, params, seed, compute, pieces),
    )
    images = to_uint8(gradients.images[: params.n_bound])
    exact = {chain: exact_denoiser(gradients.img_shape, *chain, compute) for chain in params.chains}
    rows = (bound_rows("exact", name, model, images, seed, compute, pieces) for (name, _), model in exact.items())
    write_csv(Path(f"{REPORTS}/bound.csv"), BOUND_COLUMNS, chain.from_iterable(rows))
    channels, height, width = gradients.img_shape
    metrics = {
        "samples_floor": corner_error_floor(params.n_samples * channels, generator(seed, "floor")),
        "entropy": entropy(height, width),
    }
    write_json(Path(f"{REPORTS}/metrics.json"), metrics)
    stage.log.log_metrics(metrics, 0)
