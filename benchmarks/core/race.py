"""Quality after some minutes of training: runs of the pipeline as DVC experiments, and peers in this process."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import ceil
from pathlib import Path

import torch

from benchmarks.core.experiments import Experiment, Values, collect, settings
from benchmarks.core.ledger import KEPT, Ledger
from benchmarks.core.peer import BATCH, Peer, passes
from benchmarks.core.rates import Ours, Rates, of_length, steps_in
from benchmarks.core.score import Scorer
from ddpm import recipes
from ddpm.data.dataset import load_dataset
from ddpm.images import to_uint8

STAGES = "train_unet", "sample_unet", "evaluate_unet"
KEY = "contender", "settings", "minutes", "seed", "n_steps"
TRAIN = Path("data/images/train.safetensors")


def race(
    asked: argparse.Namespace,
    ledger: Ledger,
    rates: Rates,
    ours: Sequence[Ours],
    seeds: Mapping[str, Sequence[int]],
    base: Values,
    peers: Sequence[Peer] = (),
) -> None:
    """Measure the rates that are asked for, and make the rows that are not there.

    Args:
        asked: Options: phase, minutes, jobs and those of `Rates.measure`.
        ledger: Where the rows go. Its key is KEY.
        rates: Where the rates go.
        ours: Runs of the pipeline.
        seeds: Seeds of each contender, by name.
        base: What every run of the pipeline changes in params.yaml.
        peers: Other projects.
    """
    train = load_dataset(TRAIN)
    rates.measure(asked, [*ours, *peers], train)
    if asked.phase == "rate":
        return
    wanted = experiments(rates, ours, seeds, base, len(train), asked.minutes)
    collect(ledger, STAGES, wanted, lambda metrics: metrics["evaluate_unet"], asked.jobs)
    if peers:
        scorer = Scorer(base)
    for peer in peers:
        about = f"{peer.settings}, {scorer.settings}"
        for seed in seeds[peer.name]:
            cells = {}
            for minutes in sorted(asked.minutes):
                n_steps = steps_in(minutes, rates.of(peer))
                cell = dict(zip(KEY, (peer.name, about, f"{minutes:g}", seed, n_steps), strict=True))
                if cell not in ledger:
                    cells[n_steps] = cell
            for n_steps, seconds in passes(peer, train, list(cells), seed, KEPT / f"{peer.settings}-{seed}"):
                samples = torch.cat([to_uint8(peer.draw(i, seed)) for i in range(ceil(scorer.n_samples / BATCH))])
                values = scorer(samples[: scorer.n_samples])
                ledger.add(cells[n_steps], {"failure": "", **values, "train_seconds": f"{seconds:.1f}"})


def experiments(
    rates: Rates,
    ours: Sequence[Ours],
    seeds: Mapping[str, Sequence[int]],
    base: Values,
    n_images: int,
    minutes: Sequence[float],
) -> Iterator[Experiment]:
    """A run of the pipeline for each contender, number of minutes and seed."""
    for trainee in ours:
        rate, changes = rates.of(trainee), recipes.merged(base, trainee.changes)
        about = settings(STAGES, changes)
        for seed, budget in product(seeds[trainee.name], sorted(minutes)):
            n_steps = steps_in(budget, rate)
            cell = dict(zip(KEY, (trainee.name, about, f"{budget:g}", seed, n_steps), strict=True))
            length = {"seed": seed, "train_unet": of_length(trainee.params.train_unet, n_images, n_steps)}
            yield Experiment(cell, recipes.merged(changes, length))
