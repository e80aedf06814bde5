"""Stages study_samplers and evaluate_tiny: the images, noise and params that their numbers come from."""

import csv
import json
import runpy
from pathlib import Path
from statistics import fmean

import pytest
import torch
from project import REPO

from ddpm.data.dataset import ImageDataset, save_dataset
from ddpm.data.gradients import gradient_images
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.evaluation.bound import VariationalBound
from ddpm.exact.comparison import EvaluateTiny
from ddpm.exact.denoiser import ExactDenoiser
from ddpm.exact.quality import corner_error_floor, entropy, measure
from ddpm.exact.study import StudySamplers, draw
from ddpm.images import denormalize_img, to_uint8
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.networks.checkpoint import load_model, save_model
from ddpm.run.compute import Compute
from ddpm.run.files import save_tensors
from ddpm.run.seeding import derive_seed, generator, global_stream
from ddpm.run.stage import StageRun
from ddpm.run.tracking.record import Run
from ddpm.training.evaluate import loss_by_timestep, simple_loss
from ddpm.training.loop import Examples

SHAPE, T, SEED = (3, 4, 5), 25, 7
SPLITS = {"train": 200, "held_out": 60}


class Log(Run):
    """Keeps the metrics."""

    def log_metrics(self, metrics, _):
        self.metrics = dict(metrics)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Gradients, an untrained tiny model, and samples of pure noise: each file is distinguishable."""
    monkeypatch.chdir(tmp_path)
    data = {name: ImageDataset(gradient_images(n, SHAPE, generator(1, name))) for name, n in SPLITS.items()}
    for name, dataset in data.items():
        save_dataset(tmp_path / f"data/gradients/{name}.safetensors", dataset)
    with global_stream(0, "init"):
        model = TinyDiffuser(TinyDiffuserConfig(SHAPE, 8, T))
    model.noise_schedule, model.prediction = NoiseSchedule(T, betas=SCHEDULES["cosine"](T)), "x0"
    save_model(tmp_path / "models/tiny.safetensors", model, {"schedule": "cosine"})
    noise = torch.randn(50, *SHAPE, generator=generator(2, "samples"))
    save_tensors(tmp_path / "samples/tiny.safetensors", samples=to_uint8(denormalize_img(noise)))
    return data


def run(name, params):
    stage, log = runpy.run_path(str(REPO / f"stages/{name}.py"))["STAGES"][name], Log()
    stage.main(StageRun(name, params, SEED, Compute(), log))
    assert all(path.is_file() for path in stage.outputs)
    return json.loads(Path(f"reports/{name}/metrics.json").read_text()), log.metrics


def table(path):
    return list(csv.DictReader(Path(path).read_text().splitlines()))


def evaluated(**changes):
    params = {"n_eval_per_step": 20, "n_samples": 45, "n_bound": 5, "level": 0.01} | changes
    return run("evaluate_tiny", EvaluateTiny(**params))


def test_losses_use_held_out_images_and_noise_of_training(project):
    metrics, logged = evaluated()
    model, seed = load_model("models/tiny.safetensors"), derive_seed(SEED, "train_tiny")
    exact = ExactDenoiser(SHAPE, model.noise_schedule, "x0")
    held_out = Examples(project["held_out"].x0)
    optimal = loss_by_timestep(exact, held_out, 20, seed)
    assert metrics["eval_loss"] == simple_loss(model, held_out, seed)
    assert metrics["optimal_eval_loss"] == simple_loss(exact, held_out, seed)
    assert metrics["loss"] == fmean(loss_by_timestep(model, held_out, 20, seed))
    assert metrics["optimal_loss"] == fmean(optimal)
    rows = table("reports/evaluate_tiny/optimal_loss_by_timestep.csv")
    assert [(int(row["t"]), float(row["optimal_loss"])) for row in rows] == list(enumerate(optimal, start=1))
    assert logged["eval_loss"] == metrics["eval_loss"]
    assert logged["tiny/distance"] == metrics["tiny_distance"]
    assert logged["exact/bound_fixed_small"] == metrics["exact_bound_fixed_small"]
    assert len(logged) == len(metrics)


@pytest.mark.usefixtures("project")
def test_quality_covers_saved_samples_and_exact_denoiser():
    metrics, _ = evaluated()
    seed = derive_seed(SEED, "evaluate_tiny")
    samples = torch.randn(50, *SHAPE, generator=generator(2, "samples")).clamp(-1, 1)
    rounded = (to_uint8(denormalize_img(samples)) / 255) * 2 - 1
    exact = ExactDenoiser(SHAPE, NoiseSchedule(T, betas=SCHEDULES["cosine"](T)), "x0")
    for name, images in (("tiny", rounded), ("exact", draw(exact, 45, seed, Compute()))):
        assert metrics[f"{name}_distance"] == pytest.approx(measure(images).distance)
        assert metrics[f"{name}_p_value"] == measure(images).p_value
        assert metrics[f"{name}_corner_error"] == measure(images).corner_error
        assert metrics[f"{name}_samples_floor"] == corner_error_floor(3 * len(images), generator(seed, "floor"))
        assert metrics[f"{name}_corners_uniform"] == (measure(images).p_value >= 0.01)
    assert metrics["entropy"] == entropy(4, 5)
    least, _ = evaluated(level=metrics["exact_p_value"])
    assert least["exact_corners_uniform"]
    above, _ = evaluated(level=(1 + metrics["exact_p_value"]) / 2)
    assert not above["exact_corners_uniform"]


def test_bounds_use_the_first_held_out_images(project):
    metrics, _ = evaluated()
    model, seed = load_model("models/tiny.safetensors"), derive_seed(SEED, "evaluate_tiny")
    denoisers = {"tiny": model, "exact": ExactDenoiser(SHAPE, model.noise_schedule, "x0")}
    images = to_uint8(project["held_out"].images[:5])
    rows = {(row["denoiser"], row["variance"]): row for row in table("reports/evaluate_tiny/bound.csv")}
    assert len(rows) == 4
    for name, denoiser in denoisers.items():
        for variance, bound in VariationalBound(denoiser, images, ("fixed_small", "fixed_large"), seed).run().items():
            assert float(rows[name, variance]["bits_per_dim"]) == bound.bits_per_dim
            assert metrics[f"{name}_bound_{variance}"] == bound.bits_per_dim
            assert metrics[f"{name}_bound_{variance}_margin"] == bound.margin
            assert (rows[name, variance]["schedule"], rows[name, variance]["max_steps"]) == ("cosine", str(T))


def test_study_outputs_without_a_trained_model(project, tmp_path):
    (tmp_path / "models/tiny.safetensors").unlink()
    (tmp_path / "data/gradients/train.safetensors").unlink()
    params = StudySamplers(
        n_samples=42,
        max_steps=[5, 4],
        schedules=["linear", "cosine"],
        samplers=["ddim", "ancestral"],
        ancestral={"variance": "fixed_small"},
        n_bound=3,
    )
    metrics, logged = run("study_samplers", params)
    seed = derive_seed(SEED, "study_samplers")
    assert logged == {f"exact/{name}": value for name, value in metrics.items()}
    assert metrics == {
        "samples_floor": corner_error_floor(3 * 42, generator(seed, "floor")),
        "entropy": entropy(4, 5),
    }
    errors = table("reports/study_samplers/sampler_error.csv")
    assert [(row["schedule"], row["sampler"], int(row["max_steps"])) for row in errors] == params.cells
    exact = ExactDenoiser(SHAPE, NoiseSchedule(4, betas=SCHEDULES["cosine"](4)), "x0")
    assert errors[-1]["corner_error"] == str(measure(draw(exact, 42, seed, Compute())).corner_error)
    bounds = table("reports/study_samplers/bound.csv")
    assert [(row["schedule"], int(row["max_steps"])) for row in bounds[::2]] == params.chains
    images = to_uint8(project["held_out"].images[:3])
    last = VariationalBound(exact, images, ("fixed_small", "fixed_large"), seed).run()["fixed_large"]
    assert float(bounds[-1]["bits_per_dim"]) == last.bits_per_dim
