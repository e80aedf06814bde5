"""Stages train_NAME of a door that trains CLIPs."""

from pathlib import Path

from ddpm.clip.fit import TrainClip, fit_clip
from ddpm.clip.model import Clip, save_clip
from ddpm.run.files import write_csv, write_json
from ddpm.run.seeding import global_stream
from ddpm.run.stage import Stage, StageRun
from ddpm.training.captioned import CAPTIONED, load_captioned
from ddpm.training.loop import Examples


def clip_stages(*names: str) -> dict[str, Stage]:
    """One stage per name, all with section `train_clip` but different seeds."""
    return {f"train_{name}": _clip_stage(name) for name in names}


def _clip_stage(name: str) -> Stage:
    reports = Path(f"reports/train_{name}")
    weights, loss, metrics = Path(f"models/{name}.safetensors"), reports / "loss.csv", reports / "metrics.json"

    def main(stage: StageRun) -> None:
        train, _ = load_captioned()
        with global_stream(stage.seed, "init"):
            model = Clip(stage.params.config(train.images.img_shape))
        examples = Examples(train.images.images, train.words)
        losses = fit_clip(model, stage.params, examples, stage.seed, stage.compute, stage.resume)
        save_clip(weights, model)
        write_csv(loss, ("step", "train_loss"), losses)
        write_json(metrics, {"train_loss": losses[-1][1]})
        for step, value in losses:
            stage.log.log_metrics({"train/loss": value}, step)

    outs = [path.as_posix() for path in (weights, loss, metrics)]
    return Stage(main, section=TrainClip, key="train_clip", deps=CAPTIONED, outs=outs, resumes=True)
