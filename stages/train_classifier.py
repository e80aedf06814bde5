"""Stage train_classifier: a classifier of FashionMNIST, whose features the samples are judged by."""

from pathlib import Path

from torch import Tensor

from ddpm.run import compute
from ddpm.evaluation.classifier import FashionCnn, describe
from ddpm.run.files import load_tensors, save_tensors, write_csv, write_json
from ddpm.run.stage import Stage, run_stage
from ddpm.run.resume.context import Resume, determinants
from ddpm.run.seeding import derive_seed, global_stream
from ddpm.training.classifier import fit_classifier

DATA = Path("data/fashion_mnist")
WEIGHTS = Path("models/classifier.safetensors")
REPORTS = Path("reports/train_classifier")


def main(stage: Stage) -> None:
    params = stage.params.train_classifier
    seed = derive_seed(stage.params.seed, "train_classifier")
    device = compute.set_up(stage.params.device, stage.params.precision, stage.params.threads)
    train, test = (load_tensors(DATA / f"{split}.safetensors") for split in ("train", "test"))
    for split in ("train", "test"):
        stage.run.log_input(DATA / f"{split}.safetensors", split)

    with global_stream(seed, "init"):
        model = FashionCnn()
    images, labels = train["images"][: params.n_train], train["labels"][: params.n_train]
    about = determinants("train_classifier", stage.params, device)
    with Resume("train_classifier", about, params.checkpoint_seconds) as resume:
        losses = fit_classifier(model, params, images, labels, seed, device, resume)
        write_outputs(stage, model, losses, test)


def write_outputs(stage: Stage, model: FashionCnn, losses: list[tuple[int, float]], test: dict[str, Tensor]) -> None:
    classes = describe(model, test["images"]).classes
    metrics = {
        "test_accuracy": (classes == test["labels"]).double().mean().item(),
        "train_loss": losses[-1][1],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    save_tensors(WEIGHTS, **model.cpu().state_dict())
    write_csv(REPORTS / "loss.csv", ("epoch", "train_loss"), losses)
    write_json(REPORTS / "metrics.json", metrics)
    stage.run.log_metrics(metrics, losses[-1][0])
    for path in (WEIGHTS, *sorted(REPORTS.iterdir())):
        stage.run.log_artifact(path)


if __name__ == "__main__":
    run_stage("train_classifier", main, reads=("seed", "device", "precision", "threads", "train_classifier"))
