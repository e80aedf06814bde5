"""Stage sweep: the trade-off of the decoder's guidance, by scale, with and without image embeddings."""

import logging
from pathlib import Path

from ddpm.data.dataset import load_dataset
from ddpm.evaluation.classifier import load_classifier
from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.frontier import Judges, judged, reference_features, table
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import load_tensors, write_csv, write_json
from ddpm.run.stage import Stage, StageRun, run
from ddpm.sampling.decoder import SweepDecoder, draw_scales

TEST, CLASSIFIER = "../../data/images/test.safetensors", "../../models/classifier.safetensors"
PROMPTS, DECODER = "samples/prompts.safetensors", "models/decoder.safetensors"
TABLE, METRICS = "reports/sweep/sweep.csv", "reports/sweep/metrics.json"


def main(stage: StageRun) -> None:
    params, real = stage.params, load_dataset(Path(TEST)).images
    classifier, _ = load_classifier(Path(CLASSIFIER))
    prompts, decoder = load_tensors(Path(PROMPTS)), load_model(DECODER).to(stage.compute.device)
    reference = reference_features(classifier.to(stage.compute.device), real, params.n_samples, stage.seed)
    judges = Judges(classifier, {}, reference, params.n_halves, stage.seed)
    found: dict[str, dict[float, dict[str, Estimate]]] = {}
    for signal, scale, samples in draw_scales(stage, decoder, prompts):
        scores = found.setdefault(signal, {})[scale] = judged(samples, prompts["tokens"][: params.n_samples], judges)
        logging.info("%s %g: %s", signal, scale, ", ".join(f"{name} {value}" for name, value in scores.items()))
    write_csv(Path(TABLE), *table(found))
    metrics = {
        f"{signal}/lost_{name}": by_scale[params.scales[0]][name].value - by_scale[params.scales[-1]][name].value
        for signal, by_scale in found.items()
        for name in ("recall", "precision")
    }
    write_json(Path(METRICS), metrics)
    stage.log.log_metrics(metrics, 0)


STAGES = {
    "sweep": Stage(
        main,
        section=SweepDecoder,
        deps=[TEST, CLASSIFIER, PROMPTS, DECODER],
        outs=[TABLE, METRICS],
        resumes=True,
    )
}

if __name__ == "__main__":
    run(STAGES)
