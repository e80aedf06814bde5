"""Stage sweep: the trade-offs of classifier-free guidance and CLIP guidance, by guidance scale."""

import logging
from pathlib import Path

from ddpm.captions.prompts import choose_prompts
from ddpm.captions.split import load_split
from ddpm.clip.model import load_clip
from ddpm.data.dataset import load_dataset
from ddpm.evaluation.classifier import load_classifier
from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.frontier import Judges, judged, reference_features, summary, table
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import write_csv, write_json
from ddpm.run.stage import Stage, StageRun, run
from ddpm.sampling.sweep import Sweep, draw_sweep

HELD_OUT, TEST = (f"../../data/images/{split}.safetensors" for split in ("held_out", "test"))
CAPTIONS, CLASSIFIER = "../captions/data/held_out.safetensors", "../../models/classifier.safetensors"
BASE, CLIPS = "models/base.safetensors", {name: f"models/{name}.safetensors" for name in ("clip", "judge")}
TABLE, METRICS = "reports/sweep/sweep.csv", "reports/sweep/metrics.json"


def main(stage: StageRun) -> None:
    params, device = stage.params, stage.compute.device
    labels, real = load_dataset(Path(HELD_OUT)).labels, load_dataset(Path(TEST)).images
    classifier, _ = load_classifier(Path(CLASSIFIER))
    assert labels is not None
    rows = choose_prompts(load_split(Path(CAPTIONS)), labels, params.n_samples, 0, stage.seed).tokens
    model, clips = load_model(BASE).to(device), {name: load_clip(Path(path)).to(device) for name, path in CLIPS.items()}
    reference = reference_features(classifier.to(device), real, params.n_samples, stage.seed)
    scorers = {name: clip.scores for name, clip in clips.items()}
    judges = Judges(classifier, scorers, reference, params.n_halves, stage.seed)
    found: dict[str, dict[float, dict[str, Estimate]]] = {}
    for method, scale, samples in draw_sweep(stage, model, clips["clip"].likelihood, rows):
        scores = found.setdefault(method, {})[scale] = judged(samples, rows, judges)
        logging.info("%s %g: %s", method, scale, ", ".join(f"{name} {value}" for name, value in scores.items()))
    write_csv(Path(TABLE), *table(found))
    metrics = summary({method: list(by_scale.values()) for method, by_scale in found.items()})
    write_json(Path(METRICS), metrics)
    stage.log.log_metrics(metrics, 0)


DEPS = [HELD_OUT, TEST, CAPTIONS, CLASSIFIER, BASE, *CLIPS.values()]
STAGES = {"sweep": Stage(main, section=Sweep, deps=DEPS, outs=[TABLE, METRICS], resumes=True)}

if __name__ == "__main__":
    run(STAGES)
