"""Stage sample: images for captions of held-out images, and the grid of captions and guidance scales."""

from pathlib import Path

from ddpm.captions.prompts import choose_prompts
from ddpm.captions.split import load_split
from ddpm.data.dataset import load_dataset
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import save_tensors
from ddpm.run.stage import Stage, StageRun, run
from ddpm.sampling.prompted import SampleCaptions, draw_prompts

IMAGES, CAPTIONS = "../../data/images/held_out.safetensors", "../captions/data/held_out.safetensors"
MODEL, SAMPLES = "models/base.safetensors", "samples/captions.safetensors"


def main(stage: StageRun) -> None:
    labels, params = load_dataset(Path(IMAGES)).labels, stage.params
    assert labels is not None  # else there would be no captions
    prompts = choose_prompts(load_split(Path(CAPTIONS)), labels, params.n_seen, params.n_withheld, stage.seed)
    model = load_model(MODEL).to(stage.compute.device)
    save_tensors(Path(SAMPLES), **draw_prompts(stage, model, prompts))


STAGES = {"sample": Stage(main, section=SampleCaptions, deps=[IMAGES, CAPTIONS, MODEL], outs=[SAMPLES], resumes=True)}

if __name__ == "__main__":
    run(STAGES)
