"""Stage edit: held-out images, edited by text differences."""

from pathlib import Path

import torch

from ddpm.captions.differences import choose_difference
from ddpm.captions.split import load_split
from ddpm.clip.embed import embed_captions
from ddpm.clip.model import load_clip
from ddpm.data.dataset import load_dataset
from ddpm.evaluation.classifier import load_classifier
from ddpm.evaluation.variations import edit_scores
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import load_tensors, save_tensors, write_json
from ddpm.run.stage import Stage, StageRun, run
from ddpm.sampling.vary import Edit, Varied

IMAGES, CAPTIONS = "../../data/images/held_out.safetensors", "../captions/data/held_out.safetensors"
CLASSIFIER, EMBEDDINGS = "../../models/classifier.safetensors", "data/embeddings/held_out.safetensors"
CLIP, DECODER = "models/clip.safetensors", "models/decoder.safetensors"
SAMPLES, METRICS = "samples/edit.safetensors", "reports/edit/metrics.json"


def main(stage: StageRun) -> None:
    params, held_out, embeddings = stage.params, load_dataset(Path(IMAGES)), load_tensors(Path(EMBEDDINGS))
    clip, (classifier, _) = load_clip(Path(CLIP)), load_classifier(Path(CLASSIFIER))
    assert held_out.labels is not None
    varied, split = Varied(stage, load_model(DECODER).to(stage.compute.device)), load_split(Path(CAPTIONS))
    drawn, metrics = {"shares": torch.tensor(params.shares)}, dict[str, float]()
    for first, second in params.differences:
        name = f"{first} to {second}"
        chosen = choose_difference(split, held_out.labels, first, second, params.n_images, stage.seed)
        texts = (embed_captions(clip, rows) for rows in (chosen.before, chosen.after))
        drawn[f"{name}/of"] = held_out.images[chosen.images]
        drawn[name] = varied.edits(name, embeddings["embeddings"][chosen.images], *texts)
        for share, column in zip(params.shares, drawn[name].unbind(1), strict=True):
            scores = edit_scores(classifier, column, held_out.labels[chosen.images], second)
            metrics |= {f"{name}/{share:g}/{key}": value for key, value in scores.items()}
    save_tensors(Path(SAMPLES), **drawn)
    write_json(Path(METRICS), metrics)
    stage.log.log_metrics(metrics, 0)


STAGES = {
    "edit": Stage(
        main,
        section=Edit,
        deps=[IMAGES, CAPTIONS, CLASSIFIER, EMBEDDINGS, CLIP, DECODER],
        outs=[SAMPLES, METRICS],
        resumes=True,
    )
}

if __name__ == "__main__":
    run(STAGES)
