"""Quality after a given training time: pipeline runs as DVC experiments, and peers in this process."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.core.experiments import Experiment, Values, collect, digest, keep_output, params_with, settings
from benchmarks.core.ledger import KEPT, Ledger, Row, latest
from benchmarks.core.peer import BATCH, Peer, passes
from benchmarks.core.rates import DATA, Ours, Rates, of_length, steps_in
from ddpm import recipes
from ddpm.data.dataset import ImageDataset, load_dataset
from ddpm.evaluation.evaluate import all_scores, as_metrics, compare
from ddpm.images import to_uint8
from ddpm.run.compute import Compute
from ddpm.run.files import md5, save_tensors
from ddpm.run.seeding import derive_seed

STAGES = "train_unet", "sample_unet", "evaluate_unet"
KEY = "contender", "settings", "judge", "minutes", "seed", "n_steps"
CLASSIFIER, SAMPLES = Path("models/classifier.safetensors"), Path("samples/unet.safetensors")


def race(
    asked: argparse.Namespace,
    ledger: Ledger,
    rates: Rates,
    ours: Sequence[Ours],
    seeds: Mapping[str, Sequence[int]],
    base: Values,
    peers: Sequence[Peer] = (),
) -> None:
    """Measure the requested rates, and compute the missing rows.

    Args:
        asked: Command-line options: phase, minutes, jobs, remote and the options of `Rates.measure`.
        ledger: Receives the rows. Its key is KEY.
        rates: Receives the rates.
        ours: Runs of the pipeline.
        seeds: Seeds of each contender, by name.
        base: Changes to params.yaml common to all pipeline runs.
        peers: Other projects.
    """
    splits = {split: load_dataset(path) for split, path in DATA.items()}
    train = splits["train"]
    rates.measure(asked, [*ours, *peers], train)
    if asked.phase == "rate":
        return
    params = params_with(base)
    judge = digest([params.evaluate_unet.model_dump(), *map(md5, (CLASSIFIER, *DATA.values()))])
    wanted = list(experiments(rates, ours, seeds, base, judge, len(train), asked.minutes))
    collect(ledger, STAGES, wanted, lambda _, metrics: metrics["evaluate_unet"], asked.jobs, sharing=asked.remote)
    for each in wanted:
        keep_output(each.name(ledger.path.stem), SAMPLES, samples_of(each.cell))
    for peer in peers:
        for seed in seeds[peer.name]:
            cells: dict[int, list[dict[str, object]]] = {}
            for minutes in sorted(asked.minutes):
                n_steps = steps_in(minutes, rates.of(peer))
                values = peer.name, peer.settings, judge, f"{minutes:g}", seed, n_steps
                cell = dict(zip(KEY, values, strict=True))
                if cell not in ledger:
                    cells.setdefault(n_steps, []).append(cell)
            for n_steps, seconds in passes(peer, train, list(cells), seed, KEPT / f"{peer.settings}-{seed}"):
                n_batches = ceil((params.evaluate_unet.n_samples or params.sample.unet.n_samples) / BATCH)
                samples = torch.cat([to_uint8(peer.draw(number, seed)) for number in range(n_batches)])
                save_tensors(samples_of(cells[n_steps][0]), samples=samples)
                row = {"failure": "", **scored(samples, params, splits), "train_seconds": seconds}
                for cell in cells[n_steps]:
                    ledger.add(cell, row)


def samples_of(cell: Mapping[str, object]) -> Path:
    """Where the samples of a row are stored."""
    return KEPT / f"{cell['settings']}-{cell['seed']}/samples/{cell['n_steps']}.safetensors"


def current(ledger: Ledger) -> list[Row]:
    """The comparable rows: those with the latest judge, and each contender's latest settings and rate."""
    return latest(latest(ledger.rows(), (), ("judge",)), ("contender", "minutes"), ("settings", "n_steps"))


def scored(samples: Tensor, params: Any, splits: Mapping[str, ImageDataset]) -> dict[str, float]:
    """The metrics of 8-bit samples, as computed by stage evaluate_unet."""
    seed = derive_seed(params.seed, "evaluate_unet")
    comparison, _ = compare(params.evaluate_unet, {"samples": samples}, splits, CLASSIFIER, seed, Compute())
    return as_metrics(all_scores(comparison))


def experiments(
    rates: Rates,
    ours: Sequence[Ours],
    seeds: Mapping[str, Sequence[int]],
    base: Values,
    judge: str,
    n_images: int,
    minutes: Sequence[float],
) -> Iterator[Experiment]:
    """A run of the pipeline for each contender, training time and seed."""
    for trainee in ours:
        rate, changes = rates.of(trainee), recipes.merged(base, trainee.changes)
        about = settings(STAGES, changes)
        for seed, budget in product(seeds[trainee.name], sorted(minutes)):
            n_steps = steps_in(budget, rate)
            cell = dict(zip(KEY, (trainee.name, about, judge, f"{budget:g}", seed, n_steps), strict=True))
            length = {"seed": seed, "train_unet": of_length(trainee.params.train_unet, n_images, n_steps)}
            yield Experiment(cell, recipes.merged(changes, length))
