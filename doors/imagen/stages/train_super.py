"""Stage train_super: Algorithm 1 at full resolution, conditioned on the noised low-resolution image and noise level."""

from pathlib import Path

from ddpm.data.dataset import load_dataset
from ddpm.run.stage import Stage, StageRun, run
from ddpm.training.fit import fit
from ddpm.training.train_model import TrainModel, build_model, examples, held_out_examples, outputs, write_outputs

TRAIN, HELD_OUT = (f"../../data/images/{split}.safetensors" for split in ("train", "held_out"))


def main(stage: StageRun) -> None:
    params, train = stage.params, load_dataset(Path(TRAIN))
    model = build_model(params, train, stage.seed)
    unseen = held_out_examples(model, load_dataset(Path(HELD_OUT)), params.n_eval)
    history = fit(model, params, examples(model, train), unseen, stage.seed, stage.compute, stage.log, stage.resume)
    write_outputs(stage, model, history, unseen)


STAGES = {"train_super": Stage(main, section=TrainModel, deps=[TRAIN, HELD_OUT], outs=outputs("super"), resumes=True)}

if __name__ == "__main__":
    run(STAGES)
