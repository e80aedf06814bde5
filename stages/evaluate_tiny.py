"""Stage evaluate_tiny: the tiny model and every sampler against the exact answers that the gradient data allow."""

from collections import deque
from functools import partial
from itertools import pairwise, product
from math import sqrt
from operator import mul
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from ddpm.run import compute
from ddpm.run.compute import Compute
from ddpm.data.gradients import gradient_images
from ddpm.diffusion.posterior import Variance, eps_error
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.evaluation.bound import variational_bound
from ddpm.exact.quality import GradientQuality, corner_error_floor, entropy, measure
from ddpm.run.files import load_tensors, write_csv, write_json
from ddpm.images import from_uint8, normalize_img, to_uint8
from ddpm.diffusion.model import DiffusionModel
from ddpm.networks.checkpoint import load_model
from ddpm.exact.denoiser import ExactDenoiser
from ddpm.run.stage import Stage, run_stage
from ddpm.run.resume.context import Resume, determinants
from ddpm.run.resume.pieces import Piece, Pieces
from ddpm.sampling.sample import sample_steps
from ddpm.sections import EvaluateTiny
from ddpm.run.seeding import derive_seed, generator
from ddpm.training.evaluate import loss_by_timestep, simple_loss

REPORTS = Path("reports/evaluate_tiny")
VARIANCES: tuple[Variance, ...] = ("fixed_small", "fixed_large")


def main(stage: Stage) -> None:
    params, seed = stage.params.evaluate_tiny, stage.params.seed
    device = compute.set_up(stage.params.device, stage.params.precision, stage.params.threads)
    model, facts = load_model(Path("models/tiny.safetensors"))
    model.to(device.device)
    images = normalize_img(load_tensors(Path("data/gradients/eval.safetensors"))["images"])
    samples = normalize_img(from_uint8(load_tensors(Path("samples/tiny.safetensors"))["samples"]))
    quality = measure(samples)

    schedule = model.noise_schedule
    assert schedule is not None
    exact = ExactDenoiser(model.img_shape, schedule)
    exact.prediction = model.prediction
    losses, optimal = (
        loss_by_timestep(predictor, images, schedule, params.n_eval_per_step, seed, device)
        for predictor in (model, exact)
    )
    write_csv(REPORTS / "optimal_loss_by_timestep.csv", ("t", "optimal_loss"), enumerate(optimal, start=1))

    about = determinants("evaluate_tiny", stage.params, device)
    with Resume("evaluate_tiny", about, params.checkpoint_seconds) as resume:
        pieces = Pieces(resume)
        rows = sampler_error(model.img_shape, params, seed, device, pieces)
        lengths = code_lengths(model, facts["schedule"], params, seed, device, pieces)
    columns = ("schedule", "sampler", "max_steps", *GradientQuality.__annotations__)
    write_csv(REPORTS / "sampler_error.csv", columns, rows)
    write_csv(REPORTS / "bound.csv", lengths[0], (row.values() for row in lengths))
    on_own = [row for row in lengths if (row["schedule"], row["max_steps"]) == (facts["schedule"], len(schedule))]

    steps = torch.arange(1, len(schedule) + 1, device=device.device)
    exact_quality = measure(draw(exact, "ancestral", params, seed, device))
    metrics = {
        **excess(losses, optimal, eps_error(model.prediction, steps, schedule).flatten().tolist()),
        # On the steps and noise of the evaluation loss that train_tiny reports.
        "optimal_eval_loss": simple_loss(exact, images, schedule, derive_seed(seed, "train_tiny"), device),
        **{f"tiny_{key}": value for key, value in vars(quality).items()},
        "tiny_corners_uniform": quality.p_value >= params.level,
        **{f"exact_{key}": value for key, value in vars(exact_quality).items()},
        "exact_corners_uniform": exact_quality.p_value >= params.level,
        "tiny_samples_floor": floor(len(samples), model.img_shape, seed),
        "exact_samples_floor": floor(params.n_samples, model.img_shape, seed),
        "entropy": entropy(*model.img_shape[1:]),
        **{f"{row['denoiser']}_bound_{row['variance']}": row["bits_per_dim"] for row in on_own},
        **{f"{row['denoiser']}_bound_{row['variance']}_margin": row["margin"] for row in on_own},
    }
    write_json(REPORTS / "metrics.json", metrics)
    stage.run.log_metrics({key: float(value) for key, value in metrics.items()}, 0)
    for path in sorted(REPORTS.iterdir()):
        stage.run.log_artifact(path)


def excess(losses: list[float], optimal: list[float], weights: list[float]) -> dict[str, float]:
    """The loss, the least possible one and their difference, as means over t, all on the same images and noise.

    The standard error is von Neumann's, from differences of neighbouring steps, whose noise is independent. With
    the weights of `eps_error`, the losses are those of the noise, L_simple of equation 14, whatever the model predicts.
    """
    of_noise, least_of_noise = (fmean(map(mul, weights, by_step)) for by_step in (losses, optimal))
    over = [loss - least for loss, least in zip(losses, optimal, strict=True)]
    variance = fmean((after - before) ** 2 / 2 for before, after in pairwise(over)) if len(over) > 1 else 0.0
    return {
        "loss": fmean(losses),
        "optimal_loss": fmean(optimal),
        "excess_loss": fmean(over),
        "excess_loss_standard_error": sqrt(variance / len(over)),
        "excess_loss_relative": fmean(over) / fmean(optimal),
        "noise_loss": of_noise,
        "optimal_noise_loss": least_of_noise,
        "excess_noise_loss_relative": of_noise / least_of_noise - 1,
    }


def sampler_error(
    img_shape: tuple[int, ...], params: EvaluateTiny, seed: int, device: Compute, pieces: Pieces
) -> list[tuple[object, ...]]:
    """Each sampler with the exact denoiser: what is wrong with its samples is wrong with the sampler."""

    def quality(name: str, sampler: str, max_steps: int) -> Piece:
        found = measure(draw(exact_denoiser(img_shape, name, max_steps, device), sampler, params, seed, device))
        return (torch.tensor(list(vars(found).values()), dtype=torch.float64),)

    rows: list[tuple[object, ...]] = []
    for cell in tqdm(list(product(params.schedules, params.samplers, params.max_steps)), "sampler error", disable=None):
        (values,) = pieces("/".join(map(str, cell)), partial(quality, *cell))
        rows.append((*cell, *values.tolist()))
    return rows


def code_lengths(
    model: DiffusionModel, own_schedule: str, params: EvaluateTiny, seed: int, device: Compute, pieces: Pieces
) -> list[dict[str, Any]]:
    """The bound of the exact denoiser on every schedule and T, and of the model on its own; a row a variance."""
    assert model.noise_schedule is not None
    own = own_schedule, len(model.noise_schedule)
    denoisers = [("tiny", own, model)]
    for name, max_steps in dict.fromkeys((own, *product(params.schedules, params.max_steps))):
        denoisers.append(("exact", (name, max_steps), exact_denoiser(model.img_shape, name, max_steps, device)))
    channels, height, width = model.img_shape
    stream = generator(seed, "evaluate_tiny/bound")
    images = to_uint8(gradient_images(params.n_bound, (channels, height, width), stream))
    return [
        {
            **{"denoiser": who, "schedule": name, "max_steps": max_steps, "variance": variance},
            **{"bits_per_dim": bound.bits_per_dim, "margin": bound.margin, **bound.parts},
        }
        for who, (name, max_steps), denoiser in denoisers
        for variance, bound in variational_bound(
            denoiser, images, VARIANCES, seed, device, once=pieces.within(f"bound/{who}/{name}/{max_steps}")
        ).items()
    ]


def exact_denoiser(img_shape: tuple[int, ...], name: str, max_steps: int, device: Compute) -> ExactDenoiser:
    exact = ExactDenoiser(img_shape, NoiseSchedule(max_steps, device.device, SCHEDULES[name](max_steps)))
    exact.prediction = "x0"  # the noise says nothing of the image where a schedule leaves none
    return exact


def draw(
    model: DiffusionModel, sampler: str, params: EvaluateTiny, seed: int, device: Compute
) -> Float[Tensor, "n c h w"]:
    """Samples by all steps of the model's schedule, with the same noise streams for every model and sampler."""
    streams = [generator(seed, "evaluate_tiny/samples", i) for i in range(params.n_samples)]
    steps = sample_steps(model, streams, sampler=sampler, variance=params.variance, compute=device)
    return deque(steps, maxlen=1).pop()


def floor(n_samples: int, img_shape: tuple[int, ...], seed: int) -> float:
    """The corner error that as many images from the data have by chance."""
    return corner_error_floor(n_samples * img_shape[0], generator(seed, "evaluate_tiny/floor"))


if __name__ == "__main__":
    run_stage("evaluate_tiny", main, reads=("seed", "device", "precision", "threads", "evaluate_tiny"))
