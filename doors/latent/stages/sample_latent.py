"""Stage sample_latent: latents drawn by a sampler of the main pipeline, and decoded."""

from functools import partial
from pathlib import Path

from ddpm.conditioning.captioned import ReadsCaptions
from ddpm.latent.autoencoder import decode_latents, load_autoencoder
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import save_tensors
from ddpm.run.stage import Stage, StageRun, run
from ddpm.sampling.draw import SampleModel, draw_samples

WEIGHTS, MODEL, SAMPLES = "models/autoencoder.safetensors", "models/latent.safetensors", "samples/latent.safetensors"


def main(stage: StageRun) -> None:
    device = stage.compute.device
    model, autoencoder = load_model(MODEL).to(device), load_autoencoder(Path(WEIGHTS)).to(device)
    drawn = draw_samples(stage, model, partial(decode_latents, autoencoder))
    if isinstance(model.conditioning, ReadsCaptions):
        drawn["filmed"] = drawn["cond"][: stage.params.n_trajectories].clone()
    save_tensors(Path(SAMPLES), **drawn)


STAGES = {
    "sample_latent": Stage(main, section=SampleModel, deps=[WEIGHTS, MODEL], outs=[SAMPLES], resumes=True),
}

if __name__ == "__main__":
    run(STAGES)
