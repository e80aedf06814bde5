"""Stage train_clip: a joint embedding of images and captions."""

from pathlib import Path

from ddpm.clip.fit import TrainClip, fit_clip
from ddpm.clip.model import Clip, save_clip
from ddpm.run.files import write_csv, write_json
from ddpm.run.seeding import global_stream
from ddpm.run.stage import Stage, StageRun, run
from ddpm.training.captioned import CAPTIONED, load_captioned
from ddpm.training.loop import Examples

CLIP, LOSS, METRICS = "models/clip.safetensors", "reports/train_clip/loss.csv", "reports/train_clip/metrics.json"


def main(stage: StageRun) -> None:
    train, _ = load_captioned()
    with global_stream(stage.seed, "init"):
        model = Clip(stage.params.config(train.images.img_shape))
    examples = Examples(train.images.images, train.words)
    losses = fit_clip(model, stage.params, examples, stage.seed, stage.compute, stage.resume)
    save_clip(Path(CLIP), model)
    write_csv(Path(LOSS), ("step", "train_loss"), losses)
    write_json(Path(METRICS), {"train_loss": losses[-1][1]})
    for step, loss in losses:
        stage.log.log_metrics({"train/loss": loss}, step)


STAGES = {"train_clip": Stage(main, section=TrainClip, deps=CAPTIONED, outs=[CLIP, LOSS, METRICS], resumes=True)}

if __name__ == "__main__":
    run(STAGES)
