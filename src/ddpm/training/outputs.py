"""What a training stage writes: the weights, the curves, the metrics and the pictures on the way."""

from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ddpm.run.compute import Compute
from ddpm.run.files import save_tensors, write_csv, write_json
from ddpm.networks.model import DiffusionModel
from ddpm.networks.checkpoint import save_model
from ddpm.sections import Training
from ddpm.run.tracking.record import Run
from ddpm.training.evaluate import loss_by_timestep
from ddpm.training.loop import History


def write_outputs(
    name: str,
    model: DiffusionModel,
    params: Training,
    history: History,
    eval_images: Float[Tensor, "n c h w"],
    per_step: int,
    seed: int,
    compute: Compute,
    run: Run,
    eval_labels: Shaped[Tensor, " n"] | None = None,
) -> None:
    """Write models/NAME*.safetensors and reports/train_NAME/, and send the same to tracking.

    per_step: images that each point of the loss by timestep is measured on. eval_labels: what they show, as in `fit`.
    """
    schedule = model.noise_schedule
    assert schedule is not None
    by_timestep = loss_by_timestep(model, eval_images, schedule, per_step, seed, compute, eval_labels)
    weights = f"EMA {params.ema_decay}" if params.ema_decay else "raw"
    facts = {
        "schedule": params.schedule,
        "seed": seed,
        "step": history.steps,
        "weighting": params.weighting,
        "weights": weights,
    }
    save_model(Path(f"models/{name}.safetensors"), model, facts)
    save_tensors(
        Path(f"models/{name}_previews.safetensors"), images=history.previews, steps=torch.tensor(history.preview_steps)
    )
    reports = Path(f"reports/train_{name}")
    write_csv(reports / "loss.csv", ("step", "train_loss"), history.train_loss)
    columns = ("step", *(f"train_loss_q{quartile}" for quartile in range(1, 5)))
    write_csv(reports / "loss_by_quartile.csv", columns, ((step, *losses) for step, losses in history.quartile_loss))
    write_csv(reports / "eval_loss.csv", ("step", "eval_loss"), history.eval_loss)
    write_csv(reports / "loss_by_timestep.csv", ("t", "loss"), enumerate(by_timestep, start=1))
    metrics = {
        "train_loss": history.train_loss[-1][1],
        "eval_loss": history.eval_loss[-1][1],
        "steps": history.steps,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    write_json(reports / "metrics.json", metrics)
    run.log_metrics(metrics, history.steps)
    for t, loss in enumerate(by_timestep, start=1):
        run.log_metrics({"loss_by_timestep": loss}, t)
    for path in (Path(f"models/{name}.safetensors"), *sorted(reports.iterdir())):
        run.log_artifact(path)
