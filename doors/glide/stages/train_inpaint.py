"""Stage train_inpaint: fine-tune the base model to inpaint, starting with zero weights for the extra channels."""

from typing import Any

from ddpm.data.holes import holes
from ddpm.networks.checkpoint import load_model
from ddpm.networks.widen import load_widened
from ddpm.run.stage import Stage, StageRun, run
from ddpm.training.captioned import CAPTIONED, load_captioned
from ddpm.training.fit import fit
from ddpm.training.loop import Examples
from ddpm.training.train_model import TrainModel, build_model, outputs, write_outputs

BASE = "models/base.safetensors"


def main(stage: StageRun) -> None:
    train, held_out = load_captioned(stage.params.n_eval)
    model: Any = build_model(stage.params, train.images, stage.seed)
    load_widened(model, load_model(BASE))
    around = [
        model.conditioning.around(words, some.images, holes(len(some), some.img_shape, stage.seed, split))
        for split, (some, words) in (("train", train), ("held_out", held_out))
    ]
    examples, unseen = Examples(train.images.images, around[0]), Examples(held_out.images.x0, around[1])
    history = fit(model, stage.params, examples, unseen, stage.seed, stage.compute, stage.log, stage.resume)
    write_outputs(stage, model, history, unseen)


STAGES = {
    "train_inpaint": Stage(
        main,
        section=TrainModel,
        deps=[*CAPTIONED, BASE],
        outs=outputs("inpaint"),
        resumes=True,
    )
}

if __name__ == "__main__":
    run(STAGES)
