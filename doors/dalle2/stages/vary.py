"""Stage vary: variations of held-out images, and interpolations between them."""

from pathlib import Path

from ddpm.captions.prompts import choose_prompts
from ddpm.captions.split import load_split
from ddpm.data.dataset import load_dataset
from ddpm.evaluation.classifier import load_classifier
from ddpm.evaluation.variations import others_of_class, variation_scores
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import load_tensors, save_tensors, write_json
from ddpm.run.stage import Stage, StageRun, run
from ddpm.sampling.vary import Varied, Vary

IMAGES, CAPTIONS = "../../data/images/held_out.safetensors", "../captions/data/held_out.safetensors"
CLASSIFIER, EMBEDDINGS = "../../models/classifier.safetensors", "data/embeddings/held_out.safetensors"
DECODER, SAMPLES, METRICS = "models/decoder.safetensors", "samples/vary.safetensors", "reports/vary/metrics.json"


def main(stage: StageRun) -> None:
    params, held_out, embeddings = stage.params, load_dataset(Path(IMAGES)), load_tensors(Path(EMBEDDINGS))
    classifier, _ = load_classifier(Path(CLASSIFIER))
    assert held_out.labels is not None
    varied = Varied(stage, load_model(DECODER).to(stage.compute.device))
    prompts = choose_prompts(load_split(Path(CAPTIONS)), held_out.labels, params.n_images, 0, stage.seed)
    originals, vectors = held_out.images[prompts.images], embeddings["embeddings"][prompts.images]
    variations, ends = varied.variations(vectors), vectors[: 2 * params.n_pairs]
    others = held_out.images[others_of_class(held_out.labels, prompts.images, params.n_each, stage.seed)]
    metrics = variation_scores(classifier, variations, others, prompts.tokens)
    between = varied.between(ends[::2], ends[1::2])
    save_tensors(Path(SAMPLES), originals=originals, variations=variations, between=between)
    write_json(Path(METRICS), metrics)
    stage.log.log_metrics(metrics, 0)


STAGES = {
    "vary": Stage(
        main,
        section=Vary,
        deps=[IMAGES, CAPTIONS, CLASSIFIER, EMBEDDINGS, DECODER],
        outs=[SAMPLES, METRICS],
        resumes=True,
    )
}

if __name__ == "__main__":
    run(STAGES)
