"""Stages train_clip and train_judge: a CLIP on noised images that guides, and another one that only judges."""

from pathlib import Path

from ddpm.clip.fit import TrainClip, fit_clip
from ddpm.clip.model import Clip, save_clip
from ddpm.run.files import write_csv, write_json
from ddpm.run.seeding import global_stream
from ddpm.run.stage import Stage, StageRun, run
from ddpm.training.captioned import CAPTIONED, load_captioned
from ddpm.training.loop import Examples

NAMES = "clip", "judge"  # their seeds differ


def main(stage: StageRun) -> None:
    name = stage.name.removeprefix("train_")
    train, _ = load_captioned()
    with global_stream(stage.seed, "init"):
        model = Clip(stage.params.config(train.images.img_shape))
    examples = Examples(train.images.images, train.words)
    losses = fit_clip(model, stage.params, examples, stage.seed, stage.compute, stage.resume)
    save_clip(Path(f"models/{name}.safetensors"), model)
    write_csv(Path(f"reports/train_{name}/loss.csv"), ("step", "train_loss"), losses)
    write_json(Path(f"reports/train_{name}/metrics.json"), {"train_loss": losses[-1][1]})
    for step, loss in losses:
        stage.log.log_metrics({"train/loss": loss}, step)


STAGES = {
    f"train_{name}": Stage(
        main,
        section=TrainClip,
        key="train_clip",
        deps=CAPTIONED,
        outs=[f"models/{name}.safetensors", *(f"reports/train_{name}/{made}" for made in ("loss.csv", "metrics.json"))],
        resumes=True,
    )
    for name in NAMES
}

if __name__ == "__main__":
    run(STAGES)
