"""Stage train_decoder: Algorithm 1 on images, conditioned on their embeddings and captions."""

from pathlib import Path

from ddpm.conditioning.kinds.embedding import Embedding
from ddpm.run.files import load_tensors
from ddpm.run.stage import Stage, StageRun, run
from ddpm.training.captioned import CAPTIONED, load_captioned
from ddpm.training.fit import fit
from ddpm.training.loop import Examples
from ddpm.training.train_model import TrainModel, build_model, outputs, write_outputs

EMBEDDINGS = [f"data/embeddings/{split}.safetensors" for split in ("train", "held_out")]


def main(stage: StageRun) -> None:
    train, held_out = load_captioned(stage.params.n_eval)
    model = build_model(stage.params, train.images, stage.seed)
    cond = [train.words, held_out.words]
    if isinstance(model.conditioning, Embedding):  # else it is conditioned on captions only
        found = [load_tensors(Path(path)) for path in EMBEDDINGS]
        model.conditioning.space.copy_(found[0]["space"])
        cond = [
            model.conditioning.of_embeddings(each["embeddings"][-len(words) :], words)
            for each, words in zip(found, cond, strict=True)
        ]
    examples, unseen = Examples(train.images.images, cond[0]), Examples(held_out.images.x0, cond[1])
    history = fit(model, stage.params, examples, unseen, stage.seed, stage.compute, stage.log, stage.resume)
    write_outputs(stage, model, history, unseen)


STAGES = {
    "train_decoder": Stage(
        main, section=TrainModel, deps=[*CAPTIONED, *EMBEDDINGS], outs=outputs("decoder"), resumes=True
    )
}

if __name__ == "__main__":
    run(STAGES)
