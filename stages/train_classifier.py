"""Stage train_classifier: a classifier whose features score the samples. Without labels, it predicts rotations."""

from pathlib import Path

from ddpm.data.dataset import load_dataset
from ddpm.evaluation.classifier import (
    Classifier,
    ClassifierConfig,
    TrainClassifier,
    accuracy,
    fit_classifier,
    save_classifier,
)
from ddpm.evaluation.rotation import N_TURNS
from ddpm.run.files import write_csv, write_json
from ddpm.run.seeding import global_stream
from ddpm.run.stage import Stage, StageRun, run

TRAIN, TEST = (f"data/images/{split}.safetensors" for split in ("train", "test"))
WEIGHTS, REPORTS = "models/classifier.safetensors", "reports/train_classifier"
LOSS = "step", "train_loss"


def main(stage: StageRun) -> None:
    train, test = load_dataset(Path(TRAIN)), load_dataset(Path(TEST))
    with global_stream(stage.seed, "init"):
        model = Classifier(ClassifierConfig(train.img_shape[0], len(train.class_names) or N_TURNS))
    losses = fit_classifier(model, stage.params, train, stage.seed, stage.compute, stage.resume)
    metrics = {
        "test_accuracy": accuracy(model, test),
        "train_loss": losses[-1][1],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    save_classifier(Path(WEIGHTS), model)
    write_csv(Path(f"{REPORTS}/loss.csv"), LOSS, losses)
    write_json(Path(f"{REPORTS}/metrics.json"), metrics)
    for step, loss in losses:
        stage.log.log_metrics({"train/loss": loss}, step)
    stage.log.log_metrics({"test/accuracy": metrics["test_accuracy"], "model/parameters": metrics["parameters"]}, 0)


STAGES = {
    "train_classifier": Stage(
        main,
        section=TrainClassifier,
        deps=[TRAIN, TEST],
        outs=[WEIGHTS, f"{REPORTS}/metrics.json", f"{REPORTS}/loss.csv"],
        resumes=True,
    )
}

if __name__ == "__main__":
    run(STAGES)
