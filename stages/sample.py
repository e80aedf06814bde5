"""Stage sample: images out of a trained model, named on the command line; every step of a few of them is kept."""

import sys
from pathlib import Path

import torch
from tqdm import tqdm

from ddpm import compute
from ddpm.files import save_tensors
from ddpm.images import denormalize_img, to_uint8
from ddpm.models.base import labelled
from ddpm.models.checkpoint import load_model
from ddpm.pipeline import Stage, run_stage
from ddpm.sampling.respacing import stops
from ddpm.sampling.sample import sample_steps
from ddpm.seeding import generator


def main(stage: Stage) -> None:
    params = getattr(stage.params.sample, name)
    device = compute.set_up(stage.params.device, stage.params.precision, stage.params.threads)
    path = Path(f"models/{name}.safetensors")
    model, _ = load_model(path)
    assert model.noise_schedule is not None
    n_steps = len(model.noise_schedule) if params.n_steps is None else params.n_steps
    kept = stops(model.noise_schedule, n_steps, params.spacing)
    model.to(device.device)
    labels = None if model.n_classes is None else torch.arange(params.n_samples) % model.n_classes
    stage.run.log_input(path, "model")

    samples, films = [], []
    n_batches = -(-params.n_samples // params.batch_size)
    with tqdm(total=n_batches * (n_steps + 1), desc=f"sample {name}", disable=None) as progress:
        for first in range(0, params.n_samples, params.batch_size):
            count = min(params.batch_size, params.n_samples - first)
            streams = [generator(stage.params.seed, f"sample/{name}", first + i) for i in range(count)]
            told, film = labelled(model, labels, slice(first, first + count)), []
            steps = sample_steps(
                told, streams, kept, params.sampler, params.variance, params.eta, params.clip_sample, device
            )
            for x in steps:
                film.append(to_uint8(denormalize_img(x[: max(0, params.n_films - first)])).cpu())
                progress.update()
            samples.append(to_uint8(denormalize_img(x)).cpu())
            films.append(torch.stack(film))
    out = Path(f"samples/{name}.safetensors")
    classes = {} if labels is None else {"labels": labels}
    save_tensors(out, samples=torch.cat(samples), steps=torch.cat(films, dim=1), num_steps=kept.flip(0), **classes)
    stage.run.log_artifact(out)


if __name__ == "__main__":
    name = sys.argv[1]
    run_stage(f"sample_{name}", main, reads=("seed", "device", "precision", "threads", f"sample.{name}"))
