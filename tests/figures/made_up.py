"""Made-up outputs of all stages that figures and page read. All images and all numbers are distinct."""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ddpm.data.dataset import ImageDataset, save_dataset
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.figures.topics.data import RenderData
from ddpm.figures.topics.quality import RenderQuality
from ddpm.figures.topics.tiny import RenderTiny
from ddpm.figures.trained import RenderModel
from ddpm.networks.checkpoint import save_model
from ddpm.networks.network import NETWORKS
from ddpm.run.compute import Compute
from ddpm.run.files import write_csv, write_json
from ddpm.run.stage import StageRun
from ddpm.run.tracking.record import Run

SEED, STEP = 42, 1234
TINY, UNET = (3, 4, 5), (1, 8, 8)
CLASSES = "hat", "scarf", "glove"
SAMPLERS = [f"sampler {i}" for i in range(9)]  # more than there are hand-picked colours
SCHEDULES = "linear", "cosine"
MAX_STEPS = {"tiny": 12, "unet": 16}
METRICS = {"fid_classifier": "lower", "recall_classifier": "higher", "newcomer": "near the floor"}
METRICS |= {"auc_one": "lower", "auc_two": "lower"}
SECTIONS = {
    "render_data": RenderData(forward_img_shape=[3, 6, 7], n_gradients=10, n_noised=4, forward_steps=[1, 5, 20]),
    "render_tiny": RenderTiny(n_noised=5, n_moments=2, grid_rows=2, grid_columns=3, strip_steps=4),
    "render_unet": RenderModel(n_moments=3, grid_rows=3, grid_columns=4, strip_steps=3),
    "render_quality": RenderQuality(n_columns=5),
}
PARAMS = {
    "seed": SEED,
    "device": "auto",
    "data": {"name": "winter_clothes", "path": None, "n_held_out": 9},
    "bound": {"variances": ["learned", "fixed_small"]},
    "sample": {"tiny": {"n_samples": 6, "ancestral": {"variance": "fixed_small"}}, "unet": {"n_samples": 12}},
}


def stage_run(name: str) -> StageRun:
    """An untracked stage run."""
    return StageRun(name, SECTIONS.get(name), SEED, Compute(), Run())


def write_outputs(folder: Path, conditioning: str | None = "clusters", labelled: bool = False) -> None:
    """Write everything that render stages and render_page read.

    Args:
        folder: Where to write it.
        conditioning: Conditioning of the U-Net.
        labelled: Whether its samples have labels.
    """
    values = map(float, count(1))
    draw = torch.Generator().manual_seed(0)
    _write_data(folder, draw)
    for name in ("tiny", "unet"):
        _write_model(folder, name, conditioning if name == "unet" else None, draw, values)
        _write_samples(folder, name, labelled and name == "unet", draw)
    _write_exact(folder, values)
    _write_quality(folder, values)
    _write_paper(folder, draw, values)
    write_json(folder / "plan/params.json", PARAMS)


def _images(draw: torch.Generator, *shape: int) -> Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=draw)


DATA = {
    "img_shape": [*UNET],
    "digest": "0123456789abcdef",
    "images": {"train": 31_001, "held_out": 31_002, "test": 31_003},
    "classes": {name: 31_004 + i for i, name in enumerate(CLASSES)},
    "notes": ["Some <b>scarves</b> are copies."],
}


def _write_data(folder: Path, draw: torch.Generator) -> None:
    write_json(folder / "reports/prepare_data/data.json", DATA)
    gradients = torch.rand(20, *TINY, generator=draw)
    save_dataset(folder / "data/gradients/held_out.safetensors", ImageDataset(gradients))
    for split, n in (("train", 30), ("test", 20)):
        labels = (2 + torch.arange(n, dtype=torch.uint8)) % len(CLASSES)
        dataset = ImageDataset(_images(draw, n, *UNET), labels, CLASSES)
        save_dataset(folder / f"data/images/{split}.safetensors", dataset)


def _write_model(
    folder: Path, name: str, conditioning: str | None, draw: torch.Generator, values: Iterator[float]
) -> None:
    network, max_steps = NETWORKS["mlp" if name == "tiny" else "unet"], MAX_STEPS[name]
    if name == "tiny":
        config = network.Config(img_shape=TINY, hidden_size=8, max_steps=max_steps)
    else:
        options = {"clusters": {"n_clusters": 2, "dropout": 0.1}, "labels": {"dropout": 0.1}}
        chosen = None if conditioning is None else {"name": conditioning, **options[conditioning]}
        config = network.Config(
            UNET, channels=8, dim_mults=(1, 2), max_steps=max_steps, conditioning=chosen, n_classes=len(CLASSES)
        )
    model = network(config)
    model.noise_schedule, model.prediction = NoiseSchedule(max_steps), "x0"
    facts = {"schedule": "linear", "seed": SEED, "step": STEP, "weighting": "simple", "weights": "EMA 0.9"}
    save_model(folder / f"models/{name}.safetensors", model, facts)
    channels, height, width = TINY if name == "tiny" else UNET
    previews = {
        "images": _images(draw, 5, 2, channels, 2 * height, 3 * width),
        "steps": torch.tensor([250, 500, 750, 1000, 1234]),
    }
    save_file(previews, folder / f"models/{name}_previews.safetensors")
    reports = folder / f"reports/train_{name}"
    for file, column, steps in (
        ("loss", "train_loss", (100, 600, 1234)),
        ("eval_loss", "eval_loss", (600, 1234)),
        ("loss_by_timestep", "loss", range(1, max_steps + 1)),
    ):
        write_csv(reports / f"{file}.csv", ("step", column), [(step, next(values)) for step in steps])
    quartiles = [f"train_loss_q{quartile}" for quartile in range(1, 5)]
    rows = [[step, *(next(values) for _ in quartiles)] for step in (100, 600, 1234)]
    write_csv(reports / "loss_by_quartile.csv", ("step", *quartiles), rows)
    losses = {"train_loss": next(values), "eval_loss": next(values)}
    write_json(reports / "metrics.json", losses | {"steps": 12_345, "parameters": 67_890 + max_steps})


def _write_samples(folder: Path, name: str, labelled: bool, draw: torch.Generator) -> None:
    shape, n = (TINY, 8) if name == "tiny" else (UNET, 14)
    tensors = {
        "samples": _images(draw, n, *shape),
        "steps": _images(draw, 6, 2, *shape),
        "estimates": _images(draw, 6, 2, *shape),
        "num_steps": torch.arange(10, -1, -2),
    }
    if labelled:
        tensors["labels"] = (torch.arange(n) + 1) % len(CLASSES)
    (folder / "samples").mkdir(exist_ok=True)
    save_file(tensors, folder / f"samples/{name}.safetensors")


def _write_exact(folder: Path, values: Iterator[float]) -> None:
    tiny, study = folder / "reports/evaluate_tiny", folder / "reports/study_samplers"
    measures = "corner_error", "samples_floor", "p_value", "distance"
    measures += "bound_fixed_small", "bound_fixed_small_margin", "bound_fixed_large", "bound_fixed_large_margin"
    losses = "loss", "optimal_loss", "excess_loss", "excess_loss_standard_error", "excess_loss_relative"
    losses += "noise_loss", "optimal_noise_loss", "excess_noise_loss_relative", "optimal_eval_loss", "entropy"
    losses += ("eval_loss",)
    keys = *losses, *(f"{who}_{measure}" for who in ("tiny", "exact") for measure in measures)
    found = {key: next(values) for key in keys}
    write_json(tiny / "metrics.json", {**found, "tiny_corners_uniform": False, "exact_corners_uniform": True})
    optimal = [(t, next(values)) for t in range(1, MAX_STEPS["tiny"] + 1)]
    write_csv(tiny / "optimal_loss_by_timestep.csv", ("t", "optimal_loss"), optimal)
    write_json(study / "metrics.json", {"samples_floor": next(values), "entropy": found["entropy"]})
    cells = [(schedule, sampler, T) for schedule in SCHEDULES for sampler in SAMPLERS for T in (25, 50)]
    columns = "schedule", "sampler", "max_steps", "distance", "corner_error", "p_value"
    write_csv(study / "sampler_error.csv", columns, [(*cell, *(next(values) for _ in range(3))) for cell in cells])
    columns = "denoiser", "schedule", "max_steps", "variance", "bits_per_dim", "margin", "L_0", "L_between", "L_T"
    own = [(who, "linear", MAX_STEPS["tiny"]) for who in ("tiny", "exact")]
    studied = [("exact", schedule, T) for schedule in SCHEDULES for T in (50, 9, MAX_STEPS["tiny"])]
    for folder_of, chains in ((tiny, own), (study, studied)):
        cells = [(*chain, variance) for chain in chains for variance in ("fixed_small", "fixed_large")]
        write_csv(folder_of / "bound.csv", columns, [(*cell, *(next(values) for _ in range(5))) for cell in cells])


def _write_quality(folder: Path, values: Iterator[float]) -> None:
    reports = folder / "reports/evaluate_unet"
    rows = []
    for name in CLASSES:
        low, value, high = _interval(values).values()
        rows.append((name, value, low, high, next(values), next(values)))
    write_csv(reports / "class_histogram.csv", ("class", "samples", "low", "high", "reference_seen", "labels"), rows)
    closeness = [0.9, 0.8, 0.7, 0.1, 0.6, 0.5, 0.3, 0.2]
    for space, first in (("pixel", 11), ("classifier", 3)):
        rows = [(first + i, next(values), value) for i, value in enumerate(closeness)]
        write_csv(reports / f"neighbours_{space}.csv", ("index", "distance", "closeness"), rows)
    facts = {"n_samples": 888, "reference": "test", "extractor": "58f213f585c7", "duplicate_threshold": next(values)}
    facts |= {"headline": "auc_two", "headline_real": "auc_one"}
    metrics = {
        name: {kind: _interval(values) for kind in ("samples", "floor")}
        | {"better": better, "sees": f"what {name} sees"}
        for name, better in METRICS.items()
    }
    write_json(reports / "scores.json", {"metrics": metrics, **facts})
    seen = [
        ("auc_one", True, True),
        ("newcomer", True, False),
        ("auc_two", False, True),
        ("fid_classifier", False, False),
    ]
    found = {
        name: {**_interval(values), "floor": next(values), "seen": is_seen, "must": must}
        for name, is_seen, must in seen
    }
    write_json(folder / "reports/controls/controls.json", {"grey": {"defect": "all grey", "metrics": found}})
    classifier = {"test_accuracy": next(values), "train_loss": next(values), "parameters": 4_321}
    write_json(folder / "reports/train_classifier/metrics.json", classifier)


def _write_paper(folder: Path, draw: torch.Generator, values: Iterator[float]) -> None:
    images = {"estimates": (3, 2), "latents": (2, 2), "branches": (2, 2, 4), "sources": (2, 2)}
    images |= {"interpolation": (2, 3), "coarse": (3, 3)}
    numbers = {
        "estimates_t": [16, 8, 1],
        "split_t": [16, 4],
        "coarse_t": [0, 8, 16],
        "interpolation_t": 7,
        "n_steps": 11,
    }
    tensors = {name: _images(draw, *shape, *UNET) for name, shape in images.items()}
    tensors |= {name: torch.tensor(value) for name, value in numbers.items()}
    save_file({**tensors, "lambdas": torch.tensor([0.0, 0.5, 1.0])}, folder / "samples/paper.safetensors")
    rows = [(t, *_interval(values).values()) for t in (16, 8, 1)]
    write_csv(folder / "reports/paper/x0_quality.csv", ("num_steps", "low", "fid_classifier", "high"), rows)
    facts = {"n_samples": 777, "reference": "test", "extractor": "58f213f585c7"}
    quality = {**facts, "metric": "fid_classifier", "fid_classifier_floor": _interval(values)}
    write_json(folder / "reports/paper/x0_quality.json", quality)
    columns = "t", "distortion", "L_learned", "rate_learned", "L_fixed_small", "rate_fixed_small"
    rows = [(t, *(next(values) for _ in range(5))) for t in range(MAX_STEPS["unet"] + 1)]
    write_csv(folder / "reports/bound/test.csv", columns, rows)
    parts = "L_0", "L_between", "L_T"
    found = {
        variance: {
            split: {"bits_per_dim": _interval(values), **{part: next(values) for part in parts}}
            for split in ("train", "test", "gap")
        }
        for variance in ("fixed_small", "learned")
    }
    table = [{"t": t, "rate": next(values), "distortion": next(values)} for t in (222, 111, 1)]
    bound = {"n_images": 321, "stride": 7, "variances": found, "rate_distortion": table}
    write_json(folder / "reports/bound/bound.json", bound)


def _interval(values: Iterator[float]) -> dict[str, float]:
    return {key: next(values) for key in ("low", "value", "high")}


def table_of(path: Path) -> dict[str, object]:
    """A JSON object."""
    found: dict[str, object] = json.loads(path.read_text())
    return found
