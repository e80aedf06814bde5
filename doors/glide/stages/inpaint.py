"""Stage inpaint: held-out images, inpainted by the network that was trained for it and by RePaint."""

from pathlib import Path

from ddpm.captions.adherence import adherence
from ddpm.captions.prompts import choose_prompts
from ddpm.captions.split import load_split
from ddpm.captions.vocabulary import captions
from ddpm.data.dataset import load_dataset
from ddpm.data.holes import holes
from ddpm.evaluation.captioned import adherence_scores, as_values, mean
from ddpm.evaluation.classifier import describe, load_classifier
from ddpm.evaluation.seam import seam_error
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import save_tensors, write_json
from ddpm.run.stage import Stage, StageRun, run
from ddpm.sampling.holes import Fill, fill_by_replacing, fill_by_training

IMAGES, CAPTIONS = "../../data/images/held_out.safetensors", "../captions/data/held_out.safetensors"
CLASSIFIER = "../../models/classifier.safetensors"
METHODS = {"trained": fill_by_training, "replaced": fill_by_replacing}
MODELS = {"trained": "models/inpaint.safetensors", "replaced": "models/base.safetensors"}
FILLED = "samples/inpaint.safetensors"
REPORT, METRICS = (f"reports/inpaint/{name}.json" for name in ("inpaint", "metrics"))


def main(stage: StageRun) -> None:
    params, held_out = stage.params, load_dataset(Path(IMAGES))
    classifier, _ = load_classifier(Path(CLASSIFIER))
    assert held_out.labels is not None
    prompts = choose_prompts(load_split(Path(CAPTIONS)), held_out.labels, params.n_samples, 0, stage.seed)
    shown = held_out[prompts.images]
    missing = holes(len(shown), shown.img_shape, stage.seed, "inpaint", whole=0.0)
    filled, report = {}, {}
    for name, fill in METHODS.items():
        model = load_model(MODELS[name]).to(stage.compute.device)
        filled[name] = fill(stage, model, shown.x0, missing, prompts.tokens)
        true = adherence(filled[name], captions(prompts.tokens), describe(classifier, filled[name]).classes)
        seam = mean(seam_error(filled[name], shown.images, missing), params.n_halves, stage.seed)
        report[name] = as_values({"seam_error": seam, **adherence_scores(true)})
    save_tensors(Path(FILLED), images=shown.images, holes=missing, tokens=prompts.tokens, **filled)
    metrics = {f"{name}/{key}": found["value"] for name, scores in report.items() for key, found in scores.items()}
    write_json(Path(REPORT), report)
    write_json(Path(METRICS), metrics)
    stage.log.log_metrics(metrics, 0)


DEPS = [IMAGES, CAPTIONS, CLASSIFIER, *MODELS.values()]
STAGES = {"inpaint": Stage(main, section=Fill, deps=DEPS, outs=[FILLED, REPORT, METRICS], resumes=True)}

if __name__ == "__main__":
    run(STAGES)
