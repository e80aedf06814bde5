"""Stage sample_latent: latents drawn for the captions or classes of held-out images, and decoded."""

from functools import partial
from pathlib import Path

from ddpm.conditioning.captioned import ReadsCaptions
from ddpm.conditioning.guidance import encode_cond
from ddpm.data.dataset import load_dataset
from ddpm.latent.autoencoder import decode_latents, load_autoencoder
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import save_tensors
from ddpm.run.stage import Stage, StageRun, run
from ddpm.sampling.draw import SampleModel, draw_samples

IMAGES = "../../data/images/held_out.safetensors"
WEIGHTS, MODEL, SAMPLES = "models/autoencoder.safetensors", "models/latent.safetensors", "samples/latent.safetensors"


def main(stage: StageRun) -> None:
    device = stage.compute.device
    model, autoencoder = load_model(MODEL).to(device), load_autoencoder(Path(WEIGHTS)).to(device)
    like = load_dataset(Path(IMAGES))[: stage.params.n_samples]
    cond = encode_cond(model, like.x0, like.labels)
    drawn = draw_samples(stage, model, partial(decode_latents, autoencoder), cond)
    if isinstance(model.conditioning, ReadsCaptions):
        drawn["tokens"] = drawn.pop("cond")
        drawn["filmed"] = drawn["tokens"][: stage.params.n_trajectories].clone()
    save_tensors(Path(SAMPLES), **drawn)


STAGES = {
    "sample_latent": Stage(main, section=SampleModel, deps=[IMAGES, WEIGHTS, MODEL], outs=[SAMPLES], resumes=True),
}

if __name__ == "__main__":
    run(STAGES)
