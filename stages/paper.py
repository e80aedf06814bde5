"""Stage paper: figures 6 to 10 and 14 of the paper, with the U-Net."""

from dataclasses import asdict, replace
from pathlib import Path

import torch

from ddpm.data.dataset import load_dataset
from ddpm.evaluation.progressive import Paper, Study, quality_by_moment
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import save_tensors, write_csv, write_json
from ddpm.run.stage import Stage, StageRun, run

MODEL, CLASSIFIER, SAMPLES = "models/unet.safetensors", "models/classifier.safetensors", "samples/paper.safetensors"
HELD_OUT, TEST = (f"data/images/{split}.safetensors" for split in ("held_out", "test"))
REPORTS = Path("reports/paper")


def main(stage: StageRun) -> None:
    held_out, test = (load_dataset(Path(path)) for path in (HELD_OUT, TEST))
    params = stage.params.model_copy(update={"n_samples": min(stage.params.n_samples, len(held_out))})
    stage = replace(stage, params=params)
    model = load_model(MODEL).to(stage.compute.device)
    study = Study(stage, model, test)
    estimates, num_steps = study.x0_estimates(), study.chain.timesteps[study.moments]
    save_tensors(
        Path(SAMPLES),
        n_steps=torch.tensor(len(study.chain.timesteps) - 1),
        estimates=estimates[:, : params.n_trajectories],
        estimates_t=num_steps,
        **study.shared_latents(),
        **study.interpolations(),
    )
    real = held_out.images[-params.n_samples :]
    found, floor, facts = quality_by_moment(stage, estimates, real, test.images, Path(CLASSIFIER))
    rows = [(t, *asdict(score).values()) for t, score in zip(num_steps.tolist(), found, strict=True)]
    metric = facts["metric"]
    write_csv(REPORTS / "x0_quality.csv", ("num_steps", metric, "low", "high"), rows)
    write_json(REPORTS / "x0_quality.json", {**facts, f"{metric}_floor": asdict(floor)})
    stage.log.set_tags({name: str(fact) for name, fact in facts.items()})
    stage.log.log_metrics({f"x0_estimates/{metric}": found[-1].value, f"real/{metric}": floor.value}, 0)


STAGES = {
    "paper": Stage(
        main,
        section=Paper,
        deps=[HELD_OUT, TEST, CLASSIFIER, MODEL],
        outs=[SAMPLES, f"{REPORTS}/x0_quality.json", f"{REPORTS}/x0_quality.csv"],
        resumes=True,
    )
}

if __name__ == "__main__":
    run(STAGES)
