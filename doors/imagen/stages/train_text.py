"""Stage train_text: pretrain a text encoder on the captions of the training split, without images."""

from pathlib import Path

from ddpm.captions.split import load_split
from ddpm.conditioning.text import TextEncoder
from ddpm.run.files import save_tensors, write_csv, write_json
from ddpm.run.seeding import global_stream
from ddpm.run.stage import Stage, StageRun, run
from ddpm.training.masked_words import MaskedWords, TrainText, fit_masked_words, guessed

TRAIN, HELD_OUT = (f"../captions/data/{split}.safetensors" for split in ("train", "held_out"))
ENCODER, REPORTS = "models/text.safetensors", "reports/train_text"


def main(stage: StageRun) -> None:
    params, train, held_out = stage.params, load_split(Path(TRAIN)), load_split(Path(HELD_OUT))
    with global_stream(stage.seed, "init"):
        model = MaskedWords(TextEncoder(params.width, params.layers, params.heads))
    losses = fit_masked_words(model, params, train.tokens[train.seen], stage.seed, stage.compute, stage.resume)
    metrics = {"train_loss": losses[-1][1], "guessed": guessed(model, held_out.tokens, stage.seed)}
    save_tensors(Path(ENCODER), **model.encoder.state_dict())
    write_csv(Path(f"{REPORTS}/loss.csv"), ("step", "train_loss"), losses)
    write_json(Path(f"{REPORTS}/metrics.json"), metrics)
    stage.log.log_metrics(metrics, 0)


STAGES = {
    "train_text": Stage(
        main,
        section=TrainText,
        deps=[TRAIN, HELD_OUT],
        outs=[ENCODER, f"{REPORTS}/loss.csv", f"{REPORTS}/metrics.json"],
        resumes=True,
    )
}

if __name__ == "__main__":
    run(STAGES)
