"""Stage sample: images out of a trained model, named on the command line; every step of a few of them is kept."""

import sys
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm.run import compute
from ddpm.run.files import save_tensors
from ddpm.images import denormalize_img, to_uint8
from ddpm.diffusion.model import labelled, labels_to_draw
from ddpm.networks.checkpoint import load_model
from ddpm.run.stage import Stage, run_stage
from ddpm.run.resume.context import Resume, determinants
from ddpm.run.resume.pieces import Pieces
from ddpm.sampling.spacing import stops
from ddpm.sampling.sample import sample_steps
from ddpm.sections import SampleUnet
from ddpm.run.seeding import generator


def main(stage: Stage) -> None:
    params = getattr(stage.params.sample, name)
    device = compute.set_up(stage.params.device, stage.params.precision, stage.params.threads)
    path = Path(f"models/{name}.safetensors")
    model, _ = load_model(path)
    assert model.noise_schedule is not None
    n_steps = len(model.noise_schedule) if params.n_steps is None else params.n_steps
    kept = stops(model.noise_schedule, n_steps, params.spacing)
    model.to(device.device)
    labels = labels_to_draw(model, stage.params.seed, range(params.n_samples))
    guidance_scale = params.guidance_scale if isinstance(params, SampleUnet) else 1.0
    stage.run.log_input(path, "model")

    def batch(first: int) -> tuple[Tensor, Tensor]:
        """Samples from number `first` on, and every step of those that are shown as films."""
        count = min(params.batch_size, params.n_samples - first)
        streams = [generator(stage.params.seed, f"sample/{name}", first + i) for i in range(count)]
        told, film = labelled(model, labels, slice(first, first + count), guidance_scale), []
        for x in sample_steps(
            told, streams, kept, params.sampler, params.variance, params.eta, params.clip_sample, device
        ):
            film.append(to_uint8(denormalize_img(x[: max(0, params.n_films - first)])))
            progress.update()
        return to_uint8(denormalize_img(x)), torch.stack(film)

    firsts = range(0, params.n_samples, params.batch_size)
    about = determinants(f"sample_{name}", stage.params, device)
    with Resume(f"sample_{name}", about, params.checkpoint_seconds) as resume:
        pieces, made = Pieces(resume), []
        with tqdm(total=len(firsts) * (n_steps + 1), desc=f"sample {name}", disable=None) as progress:
            for first in firsts:
                made.append(pieces(f"from {first}", partial(batch, first)))
                progress.update(len(made) * (n_steps + 1) - progress.n)  # a batch that was made before
        samples, films = zip(*made, strict=True)
        out = Path(f"samples/{name}.safetensors")
        told = {} if labels is None else {"labels" if model.clusters is None else "clusters": labels}
        save_tensors(out, samples=torch.cat(samples), steps=torch.cat(films, dim=1), num_steps=kept.flip(0), **told)
        stage.run.log_artifact(out)


if __name__ == "__main__":
    name = sys.argv[1]
    run_stage(f"sample_{name}", main, reads=("seed", "device", "precision", "threads", f"sample.{name}"))
