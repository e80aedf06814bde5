"""Stages train_tiny and train_unet: Algorithm 1 for the MLP on colour gradients and the U-Net on the data set."""

from pathlib import Path

from ddpm.data.dataset import load_dataset
from ddpm.run.stage import Stage, StageRun, run
from ddpm.training.fit import fit
from ddpm.training.train_model import TrainModel, build_model, examples, held_out_examples, outputs, write_outputs

DATA = {"tiny": "gradients", "unet": "images"}


def main(stage: StageRun) -> None:
    name, params = stage.name.removeprefix("train_"), stage.params
    train, held_out = (load_dataset(Path(f"data/{DATA[name]}/{split}.safetensors")) for split in ("train", "held_out"))
    model = build_model(params, train, stage.seed)
    unseen = held_out_examples(model, held_out, params.n_eval)
    history = fit(model, params, examples(model, train), unseen, stage.seed, stage.compute, stage.log, stage.resume)
    write_outputs(stage, model, history, unseen)


STAGES = {
    f"train_{name}": Stage(
        main,
        section=TrainModel,
        deps=[f"data/{data}/{split}.safetensors" for split in ("train", "held_out")],
        outs=outputs(name),
        resumes=True,
    )
    for name, data in DATA.items()
}

if __name__ == "__main__":
    run(STAGES)
