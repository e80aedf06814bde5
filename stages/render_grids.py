"""Stage render_grids: every picture of reports/figures, from what the other stages made."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure

from ddpm.data.gradients import gradient_images
from ddpm.diffusion.forward import noise_img, q_eq2, q_eq4, reconstruct
from ddpm.diffusion.posterior import target
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.figures import bound, curves, paper, pictures
from ddpm.figures.canvas import run_label, save
from ddpm.run.files import load_tensors
from ddpm.images import from_uint8, normalize_img
from ddpm.networks.checkpoint import load_model
from ddpm.networks.architectures.mlp import TinyDiffuser
from ddpm.run.stage import Stage, run_stage
from ddpm.sections import RenderGrids
from ddpm.run.seeding import generator, global_stream

NAMES = {"tiny": "TinyDiffuser", "unet": "U-Net"}
FOLDER = Path("reports/figures")
EXACT = Path("reports/evaluate_tiny")
EVALUATION = Path("reports/evaluate_unet")
BOUND = Path("reports/bound")
X0_QUALITY = Path("reports/paper")


def main(stage: Stage) -> None:
    params, seed = stage.params.render_grids, stage.params.seed
    gradients = load_tensors(Path("data/gradients/eval.safetensors"))["images"]
    clothes = from_uint8(load_tensors(Path("data/fashion_mnist/test.safetensors"))["images"][: params.grid_columns])
    figures = {
        **dict(forward_figures(params, seed)),
        "gradients": pictures.gradients(gradients[: params.n_gradients], seed),
        "tiny_untrained": untrained_figure(gradients[: params.n_noised], seed),
        **dict(model_figures("tiny", gradients[: params.grid_columns], params)),
        **dict(model_figures("unet", clothes, params)),
        "sampler_error": sampler_figure(),
        "tiny_bound": code_length_figure(),
        **dict(quality_figures(params)),
        **dict(paper_figures()),
    }
    for name, figure in figures.items():
        save(figure, FOLDER / f"{name}.png")
        stage.run.log_figure(figure, f"{name}.png")


def forward_figures(params: RenderGrids, seed: int) -> Iterator[tuple[str, Figure]]:
    """What needs no network: gradients of their own size, large enough to see, and the noise."""
    channels, height, width = params.forward_img_shape
    stream = generator(seed, "render_grids/gradients")
    images = gradient_images(params.n_noised, (channels, height, width), stream)
    yield "normalization", pictures.normalization(images, seed)

    steps = params.forward_steps
    schedule = NoiseSchedule(max(steps))
    x0 = normalize_img(images)
    stream = generator(seed, "render_grids/forward_process")
    eq2, eq4 = (torch.stack([q(x0[0], t, schedule.betas, stream) for t in steps]) for q in (q_eq2, q_eq4))
    pure_noise = torch.randn(2, *x0[0].shape, generator=stream)
    alpha_bars = schedule.alpha_bar(torch.tensor(steps)).tolist()
    yield "forward_process", pictures.forward_process(x0[0], eq2, eq4, pure_noise, steps, alpha_bars, seed)

    t, eps, xt = noise_img(x0, schedule, generator=generator(seed, "render_grids/noising"))
    yield "noising", pictures.noising(x0, eps, xt, reconstruct(xt, eps, t, schedule), t, len(schedule), seed)


def untrained_figure(images: torch.Tensor, seed: int) -> Figure:
    """What the tiny network says before it has learnt anything."""
    trained, _ = load_model(Path("models/tiny.safetensors"))
    assert isinstance(trained, TinyDiffuser)
    assert trained.noise_schedule is not None
    with global_stream(seed, "render_grids/untrained"):
        newborn = TinyDiffuser(trained.config)
    stream = generator(seed, "render_grids/untrained_noise")
    x0, schedule = normalize_img(images), trained.noise_schedule
    t, eps, xt = noise_img(x0, schedule, generator=stream)
    with torch.no_grad():
        predicted = newborn(xt, t)
    wanted = target(trained.prediction, x0, eps, t, schedule)
    return pictures.untrained_prediction(
        xt, wanted, predicted, t, trained.prediction, run_label(NAMES["tiny"], 0, seed)
    )


def model_figures(name: str, real: torch.Tensor, params: RenderGrids) -> Iterator[tuple[str, Figure]]:
    """What a trained network learnt, dreamt and lost."""
    model, facts = load_model(Path(f"models/{name}.safetensors"))
    label = run_label(NAMES[name], facts["step"], facts["seed"])
    previews = load_tensors(Path(f"models/{name}_previews.safetensors"))
    panels = from_uint8(previews["images"])
    yield f"{name}_previews", pictures.training_previews(panels, previews["steps"], label, params.n_moments)

    samples = load_tensors(Path(f"samples/{name}.safetensors"))
    yield f"{name}_samples", samples_figure(samples, real, label, params)
    chain, num_steps = from_uint8(samples["steps"]), samples["num_steps"]
    yield f"{name}_denoising", pictures.denoising(chain, num_steps, label, params.strip_steps)

    reports = Path(f"reports/train_{name}")
    losses = (read_curve(reports / f"{curve}.csv") for curve in ("loss", "eval_loss", "loss_by_timestep"))
    train_loss, eval_loss, by_timestep = losses
    optimum, optimal = exact_losses() if name == "tiny" else (None, [])
    yield (
        f"{name}_loss",
        curves.loss_curves(train_loss, eval_loss, model.prediction, label, optimum, facts["weighting"]),
    )
    assert model.noise_schedule is not None
    by_quartile, n_steps = read_rows(reports / "loss_by_quartile.csv"), len(model.noise_schedule)
    yield f"{name}_loss_by_quartile", curves.loss_by_quartile(by_quartile, n_steps, label)
    yield f"{name}_loss_by_timestep", curves.loss_by_timestep(by_timestep, model.prediction, label, optimal)


def exact_losses() -> tuple[float, list[tuple[int, float]]]:
    """The least possible evaluation loss of the tiny model, in all and by timestep."""
    optimum = json.loads((EXACT / "metrics.json").read_text())["optimal_eval_loss"]
    return optimum, read_curve(EXACT / "optimal_loss_by_timestep.csv")


def samples_figure(samples: Mapping[str, torch.Tensor], real: torch.Tensor, label: str, params: RenderGrids) -> Figure:
    """Samples as they come or, where they were told a class, class by class."""
    made = from_uint8(samples["samples"])
    if "labels" not in samples:
        return pictures.sample_grid(made, real, label, params.grid_rows, params.grid_columns)
    test = load_tensors(Path("data/fashion_mnist/test.safetensors"))
    names = [row["class"] for row in read_rows(EVALUATION / "class_histogram.csv")]
    first = [int((test["labels"] == number).int().argmax()) for number in range(len(names))]
    typical = from_uint8(test["images"][first])
    return pictures.samples_by_class(made, samples["labels"], typical, names, label, params.grid_columns)


def sampler_figure() -> Figure:
    """The error of each sampler with the exact denoiser, and of the tiny model's samples beside it."""
    model, facts = load_model(Path("models/tiny.safetensors"))
    assert model.noise_schedule is not None
    metrics = json.loads((EXACT / "metrics.json").read_text())
    errors: dict[str, dict[str, list[tuple[int, float]]]] = {}
    with (EXACT / "sampler_error.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            curve = errors.setdefault(row["schedule"], {}).setdefault(row["sampler"], [])
            curve.append((int(row["max_steps"]), float(row["corner_error"])))
    network = facts["schedule"], len(model.noise_schedule), metrics["tiny_corner_error"]
    label = run_label(NAMES["tiny"], facts["step"], facts["seed"])
    floor, network_floor = metrics["exact_samples_floor"], metrics["tiny_samples_floor"]
    return curves.sampler_error(errors, floor, network, network_floor, label)


def code_length_figure() -> Figure:
    """The bound of the exact denoiser and of the tiny model on the code length of gradients."""
    _, facts = load_model(Path("models/tiny.safetensors"))
    entropy = json.loads((EXACT / "metrics.json").read_text())["entropy"]
    label = run_label(NAMES["tiny"], facts["step"], facts["seed"])
    return bound.bound_by_steps(read_rows(EXACT / "bound.csv"), entropy, label)


def quality_figures(params: RenderGrids) -> Iterator[tuple[str, Figure]]:
    """What stage evaluate_unet found in the U-Net's samples."""
    _, facts = load_model(Path("models/unet.safetensors"))
    label = run_label(NAMES["unet"], facts["step"], facts["seed"])
    scores = json.loads((EVALUATION / "scores.json").read_text())
    rows = read_rows(EVALUATION / "class_histogram.csv")
    yield "unet_classes", curves.class_histogram(rows, scores["n_samples"], scores["reference"], label)

    samples = from_uint8(load_tensors(Path("samples/unet.safetensors"))["samples"])
    train = from_uint8(load_tensors(Path("data/fashion_mnist/train.safetensors"))["images"])
    by_pixel, by_feature = (read_rows(EVALUATION / f"neighbours_{space}.csv") for space in ("pixel", "fashion_cnn"))
    closeness = torch.tensor([float(row["closeness"]) for row in by_pixel])
    n_first = params.grid_columns // 2
    chosen = [*range(n_first), *closeness.argsort(stable=True)[: params.grid_columns - n_first].tolist()]
    pixel, feature = (train[[int(rows[i]["index"]) for i in chosen]] for rows in (by_pixel, by_feature))
    figure = pictures.nearest_neighbours(samples[chosen], pixel, feature, closeness[chosen], n_first, label)
    yield "unet_neighbours", figure


def paper_figures() -> Iterator[tuple[str, Figure]]:
    """The paper's figures that stages bound and paper made, by their numbers."""
    _, facts = load_model(Path("models/unet.safetensors"))
    label = run_label(NAMES["unet"], facts["step"], facts["seed"])
    rows, known = read_rows(BOUND / "test.csv"), json.loads((BOUND / "bound.json").read_text())
    yield "paper_05", bound.rate_distortion(rows, known["n_images"], label)

    made = load_tensors(Path("samples/paper.safetensors"))
    pixels = {name: from_uint8(tensor) for name, tensor in made.items() if tensor.dtype == torch.uint8}
    lambdas, n_steps = made["lambdas"].tolist(), int(made["n_steps"])
    yield "paper_06_14", paper.x0_estimates(pixels["estimates"], made["estimates_t"], n_steps, label)
    yield "paper_07", paper.shared_latents(pixels["latents"], pixels["branches"], made["split_t"], n_steps, label)
    sources, mixed, t = pixels["sources"], pixels["interpolation"], int(made["interpolation_t"])
    yield "paper_08", paper.interpolation(sources, mixed, lambdas, t, n_steps, label)
    mixed, num_steps = pixels["coarse"], made["coarse_t"]
    yield "paper_09", paper.coarse_to_fine(sources[0], mixed, lambdas, num_steps, n_steps, label)
    known = json.loads((X0_QUALITY / "x0_quality.json").read_text())
    rows, floor = read_rows(X0_QUALITY / "x0_quality.csv"), known["fid_fashion_cnn_floor"]["value"]
    measured = known["n_samples"], n_steps, known["reference"], known["extractor"]
    yield "paper_10", curves.x0_quality(rows, floor, *measured, label)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_curve(path: Path) -> list[tuple[int, float]]:
    with path.open(newline="") as file:
        return [(int(step), float(value)) for step, value in list(csv.reader(file))[1:]]


if __name__ == "__main__":
    run_stage("render_grids", main, reads=("seed", "render_grids"))
