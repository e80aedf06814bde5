"""Stage vary: variations of held-out images, what lies between two, and text differences."""

from pathlib import Path

import torch

from ddpm.captions.differences import choose_difference
from ddpm.captions.prompts import choose_prompts
from ddpm.captions.split import load_split
from ddpm.clip.embed import embed_captions
from ddpm.clip.model import load_clip
from ddpm.data.dataset import load_dataset
from ddpm.evaluation.classifier import load_classifier
from ddpm.evaluation.variations import edit_scores, others_of_class, variation_scores
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import load_tensors, save_tensors, write_json
from ddpm.run.stage import Stage, StageRun, run
from ddpm.sampling.vary import Varied, Vary

IMAGES, CAPTIONS = "../../data/images/held_out.safetensors", "../captions/data/held_out.safetensors"
CLASSIFIER, EMBEDDINGS = "../../models/classifier.safetensors", "data/embeddings/held_out.safetensors"
CLIP, DECODER = "models/clip.safetensors", "models/decoder.safetensors"
SAMPLES, METRICS = "samples/vary.safetensors", "reports/vary/metrics.json"


def main(stage: StageRun) -> None:
    params, held_out, split = stage.params, load_dataset(Path(IMAGES)), load_split(Path(CAPTIONS))
    embeddings, images, labels = load_tensors(Path(EMBEDDINGS))["embeddings"], held_out.images, held_out.labels
    clip, (classifier, _) = load_clip(Path(CLIP)), load_classifier(Path(CLASSIFIER))
    assert labels is not None
    assert classifier is not None  # else there would be no captions
    varied = Varied(stage, load_model(DECODER).to(stage.compute.device))
    prompts = choose_prompts(split, labels, params.n_images, 0, stage.seed)
    variations = varied.variations(embeddings[prompts.images])
    others = images[others_of_class(labels, prompts.images, params.n_each, stage.seed)]
    metrics = variation_scores(classifier, variations, others, prompts.tokens)
    ends = embeddings[prompts.images[: 2 * params.n_pairs]]
    between = varied.between(ends[::2], ends[1::2])
    drawn = {"originals": images[prompts.images], "variations": variations, "between": between}
    for first, second in params.differences:
        name = f"{first} to {second}"
        chosen = choose_difference(split, labels, first, second, params.n_images, stage.seed)
        texts = (embed_captions(clip, rows) for rows in (chosen.before, chosen.after))
        drawn |= {name: varied.edits(name, embeddings[chosen.images], *texts), f"{name}/of": images[chosen.images]}
        for share, column in zip(params.shares, drawn[name].unbind(1), strict=True):
            scores = edit_scores(classifier, column, labels[chosen.images], second)
            metrics |= {f"{name}/{share:g}/{key}": value for key, value in scores.items()}
    save_tensors(Path(SAMPLES), **drawn, shares=torch.tensor(params.shares))
    write_json(Path(METRICS), metrics)
    stage.log.log_metrics(metrics, 0)


STAGES = {
    "vary": Stage(
        main,
        section=Vary,
        deps=[IMAGES, CAPTIONS, CLASSIFIER, EMBEDDINGS, CLIP, DECODER],
        outs=[SAMPLES, METRICS],
        resumes=True,
    )
}

if __name__ == "__main__":
    run(STAGES)
