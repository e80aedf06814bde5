"""Stage train_latent: Algorithm 1 on latents, with the U-Net of the main pipeline."""

from functools import partial
from pathlib import Path

from ddpm.data.dataset import load_dataset
from ddpm.latent.autoencoder import decode_latents, load_autoencoder
from ddpm.latent.latents import latents_of
from ddpm.run.files import load_tensors
from ddpm.run.stage import Stage, StageRun, run
from ddpm.training.fit import fit
from ddpm.training.train_model import TrainModel, build_model, examples, held_out_examples, outputs, write_outputs

SPLITS = "train", "held_out"
WEIGHTS = "models/autoencoder.safetensors"
FOLDERS = "../../data/images", "data/latents"


def main(stage: StageRun) -> None:
    pairs = ([Path(f"{folder}/{split}.safetensors") for folder in FOLDERS] for split in SPLITS)
    train, held_out = (latents_of(load_dataset(images), load_tensors(path)["latents"]) for images, path in pairs)
    decode = partial(decode_latents, load_autoencoder(Path(WEIGHTS)))
    model = build_model(stage.params, train, stage.seed)
    unseen = held_out_examples(model, held_out, stage.params.n_eval)
    given = examples(model, train)
    history = fit(model, stage.params, given, unseen, stage.seed, stage.compute, stage.log, stage.resume, decode)
    write_outputs(stage, model, history, unseen)


STAGES = {
    "train_latent": Stage(
        main,
        section=TrainModel,
        deps=[WEIGHTS, *(f"{folder}/{split}.safetensors" for folder in FOLDERS for split in SPLITS)],
        outs=outputs("latent"),
        resumes=True,
    )
}

if __name__ == "__main__":
    run(STAGES)
