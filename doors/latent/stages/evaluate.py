"""Stage evaluate: metrics of the samples and of reconstructions (their upper limit), and caption adherence."""

from pathlib import Path

from ddpm.captions.vocabulary import captions
from ddpm.data.dataset import SPLITS, load_dataset
from ddpm.evaluation.captioned import adherence_scores, as_values, caption_adherence
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
    if "tokens" in sampled:
        sets = {"samples": sampled["samples"], "floor": splits["held_out"].images[: len(sampled["samples"])]}
        found = caption_adherence(sets, captions(sampled["tokens"]), Path(CLASSIFIER))
        adheres = {name: adherence_scores(each) for name, each in found.items()}
    else:
        adheres = {}
    write_json(REPORTS / "adherence.json", {name: as_values(each) for name, each in adheres.items()})
    metrics |= {f"{name}/adherence": each["whole"].value for name, each in adheres.items()}
    for name, images in zip(JUDGED, (sampled, {"samples": again}), strict=True):
        comparison, facts = compare(stage.params, images, splits, Path(CLASSIFIER), stage.seed, stage.compute)
        scores = all_scores(comparison)
        write_json(REPORTS / f"{name}.json", as_report(scores, comparison, facts))
        metrics |= {f"{name}/{metric}": value for metric, value in as_metrics(scores).items()}
    write_json(REPORTS / "metrics.json", metrics)
    stage.log.log_metrics(metrics, 0)


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
