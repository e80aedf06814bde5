"""Stage train_base: Algorithm 1 at low resolution, conditioned on captions through the frozen text encoder."""

from pathlib import Path

from ddpm.captions.split import load_split
from ddpm.conditioning.captioned import cond_of_rows
from ddpm.conditioning.kinds.frozen_caption import FrozenCaption
from ddpm.data.dataset import load_dataset
from ddpm.run.files import load_tensors
from ddpm.run.stage import Stage, StageRun, run
from ddpm.training.fit import fit
from ddpm.training.loop import Examples
from ddpm.training.train_model import TrainModel, build_model, outputs, write_outputs

IMAGES = {split: f"data/{split}.safetensors" for split in ("train", "held_out")}
CAPTIONS = {split: f"../captions/data/{split}.safetensors" for split in IMAGES}
ENCODER = "models/text.safetensors"


def main(stage: StageRun) -> None:
    params = stage.params
    images = {split: load_dataset(Path(path)) for split, path in IMAGES.items()}
    captions = {split: load_split(Path(path)) for split, path in CAPTIONS.items()}
    model = build_model(params, images["train"], stage.seed)
    if isinstance(model.conditioning, FrozenCaption):
        model.conditioning.encoder.load_state_dict(load_tensors(Path(ENCODER)))
    cond = {split: cond_of_rows(model.conditioning, found.tokens) for split, found in captions.items()}
    seen, last = captions["train"].seen, slice(-(params.n_eval or len(cond["held_out"])), None)
    train = Examples(images["train"].images[seen], cond["train"][seen])
    held_out = Examples(images["held_out"].x0[last], cond["held_out"][last])
    history = fit(model, params, train, held_out, stage.seed, stage.compute, stage.log, stage.resume)
    write_outputs(stage, model, history, held_out)


STAGES = {
    "train_base": Stage(
        main,
        section=TrainModel,
        deps=[*IMAGES.values(), *CAPTIONS.values(), ENCODER],
        outs=outputs("base"),
        resumes=True,
    )
}

if __name__ == "__main__":
    run(STAGES)
