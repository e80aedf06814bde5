"""Stage train_base: the U-Net and its text encoder, trained together on captioned images."""

from ddpm.run.stage import Stage, StageRun, run
from ddpm.training.captioned import CAPTIONED, load_captioned
from ddpm.training.fit import fit
from ddpm.training.loop import Examples
from ddpm.training.train_model import TrainModel, build_model, outputs, write_outputs


def main(stage: StageRun) -> None:
    train, held_out = load_captioned(stage.params.n_eval)
    model = build_model(stage.params, train.images, stage.seed)
    examples, unseen = Examples(train.images.images, train.words), Examples(held_out.images.x0, held_out.words)
    history = fit(model, stage.params, examples, unseen, stage.seed, stage.compute, stage.log, stage.resume)
    write_outputs(stage, model, history, unseen)


STAGES = {
    "train_base": Stage(
        main,
        section=TrainModel,
        deps=CAPTIONED,
        outs=outputs("base"),
        resumes=True,
    )
}

if __name__ == "__main__":
    run(STAGES)
