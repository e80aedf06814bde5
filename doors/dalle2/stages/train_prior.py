"""Stage train_prior: Algorithm 1 on image embeddings, conditioned on captions."""

from pathlib import Path
from typing import Any

from ddpm.clip.embed import give_text
from ddpm.clip.model import load_clip
from ddpm.latent.latents import latents_of
from ddpm.run.files import load_tensors
from ddpm.run.stage import Stage, StageRun, run
from ddpm.sampling.prior import as_strips
from ddpm.training.captioned import CAPTIONED, load_captioned
from ddpm.training.fit import fit
from ddpm.training.loop import Examples
from ddpm.training.train_model import TrainModel, build_model, outputs, write_outputs

CLIP, EMBEDDINGS = (
    "models/clip.safetensors",
    [f"data/embeddings/{split}.safetensors" for split in ("train", "held_out")],
)


def main(stage: StageRun) -> None:
    captioned = load_captioned(stage.params.n_eval)
    found = (load_tensors(Path(path))["embeddings"][:, :, None, None] for path in EMBEDDINGS)
    train, held_out = (
        Examples(vectors[-len(split.words) :], split.words) for vectors, split in zip(found, captioned, strict=True)
    )
    model: Any = build_model(stage.params, latents_of(captioned[0].images, train.images), stage.seed)
    give_text(load_clip(Path(CLIP)), model.conditioning)
    history = fit(
        model, stage.params, train, held_out, stage.seed, stage.compute, stage.log, stage.resume, decode=as_strips
    )
    write_outputs(stage, model, history, held_out)


STAGES = {
    "train_prior": Stage(
        main, section=TrainModel, deps=[*CAPTIONED, CLIP, *EMBEDDINGS], outs=outputs("prior"), resumes=True
    )
}

if __name__ == "__main__":
    run(STAGES)
