"""Stage sample_prior: image embeddings for captions of held-out images and for the captions of the figures."""

from pathlib import Path

from ddpm.captions.prompts import choose_prompts
from ddpm.captions.split import load_split
from ddpm.data.dataset import load_dataset
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import save_tensors
from ddpm.run.stage import Stage, StageRun, run
from ddpm.sampling.prior import SamplePrior, draw_signals

IMAGES, CAPTIONS = "../../data/images/held_out.safetensors", "../captions/data/held_out.safetensors"
PRIOR, SIGNALS = "models/prior.safetensors", ["samples/prompts.safetensors", "samples/figures.safetensors"]


def main(stage: StageRun) -> None:
    labels, params = load_dataset(Path(IMAGES)).labels, stage.params
    assert labels is not None  # else there would be no captions
    prompts = choose_prompts(load_split(Path(CAPTIONS)), labels, params.n_seen, params.n_withheld, stage.seed)
    prior = load_model(PRIOR).to(stage.compute.device)
    for path, signals in zip(SIGNALS, draw_signals(stage, prior, prompts), strict=True):
        save_tensors(Path(path), **signals)


STAGES = {"sample_prior": Stage(main, section=SamplePrior, deps=[IMAGES, CAPTIONS, PRIOR], outs=SIGNALS, resumes=True)}

if __name__ == "__main__":
    run(STAGES)
