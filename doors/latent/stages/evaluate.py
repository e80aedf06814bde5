"""Stage evaluate: metrics of the samples and of reconstructions, their upper limit, and caption adherence."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ddpm.captions.adherence import adherence
from ddpm.captions.vocabulary import captions
from ddpm.data.dataset import SPLITS, load_dataset
from ddpm.evaluation.captioned import adherence_scores, as_values
from ddpm.evaluation.classifier import describe, load_classifier
from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.evaluate import EvaluateUnet, all_scores, as_metrics, as_report, compare
from ddpm.evaluation.metric import METRICS
from ddpm.latent.autoencoder import load_autoencoder, reconstructed
from ddpm.run.files import load_tensors, save_tensors, write_json
from ddpm.run.stage import Stage, StageRun, run

CLASSIFIER, WEIGHTS = "../../models/classifier.safetensors", "models/autoencoder.safetensors"
SAMPLES, RECONSTRUCTIONS = "samples/latent.safetensors", "samples/reconstructions.safetensors"
REPORTS = Path("reports/evaluate")
DATA = {split: f"../../data/images/{split}.safetensors" for split in SPLITS}
JUDGED = "samples", "reconstructions"


def main(stage: StageRun) -> None:
    splits = {split: load_dataset(Path(path)) for split, path in DATA.items()}
    sampled = load_tensors(Path(SAMPLES))
    unseen = splits["held_out" if stage.params.reference == "test" else "test"][: len(sampled["samples"])]
    autoencoder = load_autoencoder(Path(WEIGHTS)).to(stage.compute.device)
    again = reconstructed(autoencoder, unseen.images, stage.seed, stage.compute)
    save_tensors(Path(RECONSTRUCTIONS), images=unseen.images, samples=again)
    metrics = {"reconstruction_error": (again.float() - unseen.images.float()).abs().mean().item() / 255}
    adheres = caption_adherence(sampled, splits["held_out"].images) if "tokens" in sampled else {}
    write_json(REPORTS / "adherence.json", {name: as_values(found) for name, found in adheres.items()})
    metrics |= {f"{name}/adherence": found["whole"].value for name, found in adheres.items()}
    for name, images in zip(JUDGED, (sampled, {"samples": again}), strict=True):
        comparison, facts = compare(stage.params, images, splits, Path(CLASSIFIER), stage.seed, stage.compute)
        scores = all_scores(comparison)
        write_json(REPORTS / f"{name}.json", as_report(scores, comparison, facts))
        metrics |= {f"{name}/{metric}": value for metric, value in as_metrics(scores).items()}
    write_json(REPORTS / "metrics.json", metrics)
    stage.log.log_metrics(metrics, 0)


def caption_adherence(sampled: Mapping[str, Tensor], originals: Tensor) -> dict[str, dict[str, Estimate]]:
    """How well samples match their captions, and how well the images match that the captions are of."""
    texts, (classifier, _) = captions(sampled["tokens"]), load_classifier(Path(CLASSIFIER))
    judged = {"samples": sampled["samples"], "floor": originals[: len(texts)]}
    return {
        name: adherence_scores(adherence(images, texts, describe(classifier, images).classes))
        for name, images in judged.items()
    }


STAGES = {
    "evaluate": Stage(
        main,
        section=EvaluateUnet,
        deps=[*DATA.values(), CLASSIFIER, WEIGHTS, SAMPLES],
        entries=[METRICS.module(name) for name in METRICS],
        outs=[RECONSTRUCTIONS, *(f"{REPORTS}/{name}.json" for name in ("metrics", "adherence", *JUDGED))],
    )
}

if __name__ == "__main__":
    run(STAGES)
