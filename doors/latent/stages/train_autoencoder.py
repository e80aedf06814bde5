"""Stage train_autoencoder: train the autoencoder on images."""

from pathlib import Path

from ddpm.data.dataset import load_dataset
from ddpm.latent.autoencoder import Autoencoder, reconstructed, save_autoencoder
from ddpm.latent.fit import TrainAutoencoder, fit_autoencoder, set_scale
from ddpm.run.files import write_csv, write_json
from ddpm.run.seeding import global_stream
from ddpm.run.stage import Stage, StageRun, run

TRAIN, HELD_OUT = (f"../../data/images/{split}.safetensors" for split in ("train", "held_out"))
WEIGHTS, REPORTS = "models/autoencoder.safetensors", "reports/train_autoencoder"


def main(stage: StageRun) -> None:
    train, held_out = load_dataset(Path(TRAIN)), load_dataset(Path(HELD_OUT))
    with global_stream(stage.seed, "init"):
        model = Autoencoder(stage.params.config(train.img_shape))
    losses = fit_autoencoder(model, stage.params, train, stage.seed, stage.compute, stage.resume)
    set_scale(model, train, stage.seed, stage.compute)
    made = reconstructed(model, held_out.images, stage.seed, stage.compute)
    metrics = {
        "held_out_error": (made.float() - held_out.images.float()).abs().mean().item() / 255,
        "scale": model.scale.item(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    save_autoencoder(Path(WEIGHTS), model)
    write_csv(Path(f"{REPORTS}/loss.csv"), ("step", "train_loss"), losses)
    write_json(Path(f"{REPORTS}/metrics.json"), metrics)
    for step, loss in losses:
        stage.log.log_metrics({"train/loss": loss}, step)
    stage.log.log_metrics({f"autoencoder/{name}": value for name, value in metrics.items()}, 0)


STAGES = {
    "train_autoencoder": Stage(
        main,
        section=TrainAutoencoder,
        deps=[TRAIN, HELD_OUT],
        outs=[WEIGHTS, f"{REPORTS}/metrics.json", f"{REPORTS}/loss.csv"],
        resumes=True,
    )
}

if __name__ == "__main__":
    run(STAGES)
