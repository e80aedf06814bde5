"""Stage summary: metrics.json, the headline metrics of a run, with the same names in all pipelines."""

from pathlib import Path

from ddpm.evaluation.controls import missed
from ddpm.evaluation.evaluate import headlines
from ddpm.evaluation.judged import judged_by
from ddpm.evaluation.metric import METRICS
from ddpm.evaluation.two_sample import HEADLINE
from ddpm.figures.reports import read_json
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import write_json
from ddpm.run.stage import Stage, StageRun, run
from ddpm.sampling.draw import SampleModel

SUMMARY = Path("metrics.json")
SCORES = "reports/evaluate_unet/scores.json"
PICTURE, MODEL = "reports/figures/unet_samples.png", Path("models/unet.safetensors")
REPORTS = {
    **{name: f"reports/{name}/metrics.json" for name in ("train_unet", "evaluate_tiny", "evaluate_unet", "bound")},
    "controls": "reports/controls/controls.json",
}
DECIMALS = 4  # so that a table fits a terminal (the reports have all of them)


def main(stage: StageRun) -> None:
    found = {name: read_json(Path(path)) for name, path in REPORTS.items()}
    every = {
        **headlines(found["evaluate_unet"]),
        "auc_real": found["evaluate_unet"]["worst_auc_floor"],
        "bits_dim": min(variance["test"]["bits_per_dim"] for variance in found["bound"].values()),
        "loss": found["train_unet"]["eval_loss"],
        "missed": len(missed(found["controls"])),
        "excess": found["evaluate_tiny"]["excess_loss_relative"],
    }
    metrics = {name: round(value, DECIMALS) for name, value in every.items()}
    write_json(SUMMARY, metrics)
    stage.log.summarize(metrics, Path(PICTURE))
    settings = stage.params.model_dump() | {"options": stage.params.options("sampler").model_dump()}
    about = {"name": "unet", "img_shape": load_model(MODEL).img_shape, "settings": settings}
    judged = {"metrics": metrics, "headline": HEADLINE, "judged_by": judged_by(read_json(Path(SCORES)))}
    stage.log.log_model(MODEL, about | judged)


STAGES = {
    "summary": Stage(
        main,
        section=SampleModel,
        key="sample.unet",
        general=(),
        deps=[*REPORTS.values(), SCORES, PICTURE, str(MODEL)],
        entries=[METRICS.module(name) for name in METRICS],
        metrics=[str(SUMMARY)],
    )
}

if __name__ == "__main__":
    run(STAGES)
