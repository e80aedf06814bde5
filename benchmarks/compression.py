"""What compression saves: images per second of Latent Diffusion's network at f = 1, 2, 4 and 8 (doors/latent).

    python -m benchmarks.compression         # a few minutes, on an idle machine

The variants are those of doors/latent/claims.yaml, with random latents. All are measured in turn, in several rounds,
and the median is reported. The autoencoder is excluded: it is trained once, and decodes once per image. Writes
docs/results/compression.md.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.claims import CLAIMS
from benchmarks.core.claims import load_claims
from benchmarks.core.clock import Clock
from benchmarks.core.experiments import params_with
from benchmarks.core.options import count, parser
from benchmarks.core.rates import WARM_UP, machine
from benchmarks.core.report import insert, table
from ddpm.conditioning.guidance import given
from ddpm.data.dataset import ImageDataset
from ddpm.diffusion.model import DiffusionModel
from ddpm.latent.latents import LatentDataset, latents_of
from ddpm.run.compute import Compute, set_up
from ddpm.run.dvc import DOORS
from ddpm.run.seeding import generator
from ddpm.run.stage import mistakes_in_one_line
from ddpm.sampling.chain import sample_steps
from ddpm.sampling.spacing import timesteps
from ddpm.training.loop import Examples, start_training, training_steps
from ddpm.training.train_model import build_model, examples

DOOR, DOC = DOORS / "latent", Path("docs/results/compression.md")
VARIANTS = "f1", "f2", "f4", "f8"
COLUMNS = "f", "latent", "weights", "MFLOP per image", "training, images/s", "sampling, images/s"


class Variant(NamedTuple):
    """A network in training, and its training data."""

    params: Any
    model: DiffusionModel
    examples: Examples


Measure = Callable[[Variant, Compute], float]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=count, default=5)
    options.add_argument("--steps", type=count, default=10, help="training and sampling steps in each round")
    asked = options.parse_args()
    claims = load_claims(DOOR / CLAIMS)
    shape = params_with({}).data.source.img_shape
    variants = {name: variant(claims.changes(name), shape) for name in VARIANTS}
    general = variants["f4"].params
    compute = set_up(general.device, general.precision)
    measures: dict[str, Measure] = {
        "training": partial(training, n_steps=asked.steps),
        "sampling": partial(sampling, n_steps=asked.steps),
    }
    found: dict[tuple[str, str], list[float]] = {(name, kind): [] for name in variants for kind in measures}
    for number in range(asked.rounds):
        for (name, kind), rates in found.items():
            rates.append(measures[kind](variants[name], compute))
            print(f"round {number + 1} of {asked.rounds}: {name} {kind} {rates[-1]:.1f} images/s", flush=True)
    lines = [row(each, [median(found[name, kind]) for kind in measures]) for name, each in variants.items()]
    about = f"{machine(compute.device)}, {compute.precision}; one process"
    about += f". Sampling takes {general.sample_latent.n_steps} steps."
    insert(DOC, f"{about}\n\n{table(COLUMNS, lines)}")


def variant(changes: Mapping[str, Any], img_shape: tuple[int, ...]) -> Variant:
    """The network of a variant, and random latents."""
    params = params_with(changes, DOOR)
    latents = random_latents(img_shape, params.train_autoencoder.config(img_shape).latent_shape)
    model = build_model(params.train_latent, latents, seed=0)
    return Variant(params, model, examples(model, latents))


def random_latents(img_shape: tuple[int, ...], latent_shape: tuple[int, ...], n: int = 256) -> LatentDataset:
    """Random latents of random images in ten classes."""
    stream = generator(0, "images")
    images = torch.randint(256, (n, *img_shape), dtype=torch.uint8, generator=stream)
    origin = ImageDataset(images, torch.arange(n) % 10, tuple("abcdefghij"))
    return latents_of(origin, torch.randn(n, *latent_shape, generator=stream))


def training(each: Variant, compute: Compute, n_steps: int) -> float:
    """Training speed in images per second, after a warm-up."""
    params = each.params.train_latent.model_copy(update={"epochs": 1_000.0})
    clock = Clock(training_steps(start_training(each.model, params, compute), params, each.examples, 0, compute))
    for _ in range(WARM_UP + n_steps):
        next(clock)
    return n_steps * params.batch_size / sum(clock.laps[WARM_UP:])


def sampling(each: Variant, compute: Compute, n_steps: int) -> float:
    """Sampling speed in images per second, after a warm-up, from the mean time of a step of stage sample_latent."""
    own = each.params.sample_latent
    model, n = given(each.model, each.examples.cond, slice(own.batch_size), own.guidance_scale), own.batch_size
    assert each.model.noise_schedule is not None
    steps = timesteps(each.model.noise_schedule, own.n_steps, own.spacing)
    streams = [generator(0, "noise", i) for i in range(n)]
    clock = Clock(sample_steps(model, streams, steps, own.sampler, own.options("sampler"), False, compute))
    for _ in range(WARM_UP + n_steps):
        next(clock)
    return n * n_steps / sum(clock.laps[WARM_UP:]) / own.n_steps


def row(each: Variant, rates: list[float]) -> tuple[object, ...]:
    """A row of the table."""
    weights = sum(parameter.numel() for parameter in each.model.parameters())
    shape = each.model.img_shape
    model = given(each.model, each.examples.cond, slice(1))
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        model(torch.zeros(1, *shape), torch.ones(1))
    latent = " x ".join(map(str, shape))
    operations = f"{flops.get_total_flops() / 1e6:,.0f}"
    return (
        each.params.train_autoencoder.factor,
        latent,
        f"{weights:,}",
        operations,
        *(f"{rate:.3g}" for rate in rates),
    )


if __name__ == "__main__":
    with mistakes_in_one_line("compression"):
        main()
