"""Quality of the U-Net's samples against evaluations of the network, for every sampler and spacing of its steps.

    python benchmarks/few_steps.py

With guidance the network is evaluated twice each time, once told and once untold, and that counts as one here.
Scores the samples against held-out images of the training split, for this is a search; writes reports/few_steps/. A row
that is there for the same weights, classifier and settings is not made again, so it can be stopped and go on, and made
piece by piece; the figure shows all rows of these.
"""

import argparse
import csv
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter, StrMethodFormatter
from torch import Tensor

from ddpm.run.compute import set_up
from ddpm.run.params import load_params
from ddpm.errors import UserError
from ddpm.evaluation.classifier import describe, load_classifier
from ddpm.evaluation.metrics import estimate, fid, precision, recall
from ddpm.figures.canvas import FAINT, LINE, SERIES, curve_panels, save, styled
from ddpm.run.files import load_tensors, md5, write_csv
from ddpm.images import denormalize_img, to_uint8
from ddpm.networks.model import DiffusionModel, labelled, labels_to_draw
from ddpm.networks.checkpoint import load_model
from ddpm.sampling.spacing import stops
from ddpm.sampling.sample import SAMPLERS, sample_steps
from ddpm.sections import LEAST_SAMPLES, LEAST_STEPS
from ddpm.run.seeding import generator

MODEL = Path("models/unet.safetensors")
CLASSIFIER = Path("models/classifier.safetensors")
REPORTS = Path("reports/few_steps")
SPACINGS = ("even", "karras")
N_HELD_OUT = 5000  # as evaluate_unet.n_held_out: neither network was trained on them
N_HALVES = 20
KEY = ("model", "extractor", "n_samples", "seed", "clip_sample", "guidance_scale", "sampler", "spacing", "evaluations")
COLUMNS = (*KEY, "n_steps", "fid_fashion_cnn", "low", "high", "precision", "recall", "images_per_cpu_second")


def main() -> None:
    options = arguments()
    set_up("cpu", "fp32", 1)
    model, _ = load_model(MODEL)
    model.to(memory_format=torch.channels_last)
    assert model.noise_schedule is not None
    classifier, extractor = load_classifier(CLASSIFIER)
    held_out = load_tensors(Path("data/fashion_mnist/train.safetensors"))["images"][-N_HELD_OUT:]
    real, reference = held_out[: options.n_samples], held_out[options.n_samples :]
    features = describe(classifier, reference).features

    def score(images: Tensor) -> list[float]:
        points = describe(classifier, images).features
        found = estimate(lambda x: fid(features, x), points, N_HALVES, 0)
        as_many = features[: len(points)]
        return [found.value, found.low, found.high, precision(as_many, points), recall(as_many, points)]

    choices = options.n_samples, options.seed, not options.no_clip_sample, options.guidance_scale
    setting = (md5(MODEL)[:12], extractor, *choices)
    rows = {tuple(row[key] for key in KEY): row for row in read(REPORTS / "few_steps.csv")}
    everything = len(model.noise_schedule)
    if max(options.evaluations) > everything:
        raise UserError(f"--evaluations has {max(options.evaluations)}; {MODEL} has {everything} steps")
    wanted = [(*setting, "real images", "", 0)]
    wanted += [(*setting, *cell) for cell in cells(options, everything)]
    for cell in wanted:
        key = tuple(map(str, cell))
        if key in rows:
            continue
        *_, sampler, spacing, evaluations = cell
        n_steps = (evaluations + 1) // 2 if sampler == "heun" else evaluations
        if evaluations:
            images, seconds = draw(model, sampler, spacing, n_steps, options)
            values = [n_steps, *score(images), options.n_samples / seconds]
        else:
            values = [0, *score(real), 0.0]
        rows[key] = dict(zip(COLUMNS, map(str, (*cell, *values)), strict=True))
        print(*cell[-3:], *(f"{value:.3f}" for value in values[1:]), flush=True)
        write_csv(REPORTS / "few_steps.csv", COLUMNS, ([row.get(name) for name in COLUMNS] for row in rows.values()))
    mine = [row for key, row in rows.items() if key[: len(setting)] == tuple(map(str, setting))]
    free = "_no_clip" if options.no_clip_sample else ""
    name = f"few_steps_{options.n_samples}_seed_{options.seed}_guidance_{options.guidance_scale:g}{free}.png"
    save(figure(sorted(mine, key=lambda row: int(row["evaluations"])), everything), REPORTS / name)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-samples", type=int, default=1024, help=f"images a row, {LEAST_SAMPLES} to 2500")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--spacings", nargs="+", choices=SPACINGS, default=list(SPACINGS), help="of fewer steps")
    parser.add_argument("--evaluations", type=int, nargs="+", default=[5, 10, 20, 50, 200], help="of the network")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-clip-sample", action="store_true", help="let estimates of the image leave [-1, 1]")
    scale = load_params().sample.unet.guidance_scale
    parser.add_argument("--guidance-scale", type=float, default=scale, help="by default that of params.yaml")
    options = parser.parse_args()
    if not LEAST_SAMPLES <= options.n_samples <= N_HELD_OUT // 2:
        parser.error(f"--n-samples is {options.n_samples}; give {LEAST_SAMPLES} to {N_HELD_OUT // 2}")
    if options.batch_size < 1 or min(options.evaluations) < 1:
        parser.error("--batch-size and --evaluations must be at least 1")
    return options


def cells(options: argparse.Namespace, everything: int) -> Iterator[tuple[str, str, int]]:
    """(sampler, spacing, evaluations), the cheapest first; heun takes one evaluation less where their number is even.

    With as many evaluations as the schedule has steps, only the even spacing is asked for.
    """
    for count in sorted(options.evaluations):
        for spacing, sampler in product(SPACINGS[:1] if count == everything else options.spacings, options.samplers):
            asked = count - 1 + count % 2 if sampler == "heun" else count
            n_steps = (asked + 1) // 2 if sampler == "heun" else asked
            if LEAST_STEPS.get(sampler, 1) <= n_steps <= everything:
                yield sampler, spacing, asked


def draw(
    model: DiffusionModel, sampler: str, spacing: str, n_steps: int, options: argparse.Namespace
) -> tuple[Tensor, float]:
    """8-bit samples, and the seconds of processor time that they took; the same noise streams for every row.

    A model that must be told of each image's class or cluster is told as in stage sample.
    """
    kept = stops(model.noise_schedule, n_steps, spacing)
    labels = labels_to_draw(model, options.seed, range(options.n_samples))
    batches, start = [], time.process_time()
    for chosen in torch.arange(options.n_samples).split(options.batch_size):
        streams = [generator(options.seed, "few_steps", i) for i in chosen.tolist()]
        told = labelled(model, labels, chosen, options.guidance_scale)
        steps = sample_steps(told, streams, kept, sampler, "fixed_small", clip_sample=not options.no_clip_sample)
        batches.append(to_uint8(denormalize_img(deque(steps, maxlen=1).pop())))
    return torch.cat(batches), time.process_time() - start


def read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@styled
def figure(rows: list[Mapping[str, str]], everything: int) -> Figure:
    """A panel a spacing, a line a sampler; all steps stand in every panel."""
    floor, *others = rows
    best = min(float(row["fid_fashion_cnn"]) for row in others)
    result, panels = curve_panels(
        f"Quality in few steps: U-Net, {floor['n_samples']} samples, seed {floor['seed']}",
        "Frechet distance, in a FashionMNIST classifier's features, to held-out images of the training split: lower is "
        "better. The dotted line is 10 % above the best value of any sampler and number of steps.",
        "evaluations of the network" if float(floor["guidance_scale"]) == 1 else "steps: pairs of evaluations (guided)",
        "fid_fashion_cnn",
        [f"steps: {spacing}" for spacing in SPACINGS],
    )
    for axes, spacing in zip(panels, SPACINGS, strict=True):
        for sampler, color in zip(SAMPLERS, SERIES, strict=True):
            mine = [row for row in others if row["sampler"] == sampler]
            mine = [row for row in mine if row["spacing"] == spacing or int(row["evaluations"]) >= everything - 1]
            points = sorted((int(row["evaluations"]), float(row["fid_fashion_cnn"])) for row in mine)
            if points:
                axes.plot(*zip(*points, strict=True), label=sampler, color=color, marker="o", markersize=4)
        axes.axhline(1.1 * best, color=FAINT, linestyle=":", label=f"best + 10 %: {1.1 * best:.3f}")
        axes.axhline(float(floor["fid_fashion_cnn"]), color=FAINT, linestyle="--", label="real images")
        axes.set_xscale("log")
        axes.set_xticks(sorted({int(row["evaluations"]) for row in others if row["sampler"] != "heun"}))
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(ScalarFormatter())
    panels[0].set_yscale("log")
    panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[0].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panels[0].yaxis.set_minor_formatter(NullFormatter())
    corner = panels[-1].get_position()
    above = corner.y1 + 1.2 * LINE / result.bbox.height
    lines = {line.get_label(): line for axes in panels for line in axes.get_legend_handles_labels()[0]}
    place = {"loc": "lower right", "borderaxespad": 0, "bbox_to_anchor": (corner.x1, above)}
    result.legend(lines.values(), lines.keys(), ncols=4, **place)
    return result


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"few_steps: {error}")
