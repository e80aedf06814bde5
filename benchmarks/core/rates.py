"""Training speeds, which define what a minute of training is.

    python -m benchmarks.core.rates '{}'     # speed of the default, or with changes to params.yaml as JSON

A minute is a minute at steady speed on an idle machine: minutes x 60 / (seconds per step) steps, however long they
actually take. Results therefore depend neither on the load of the machine nor on interruptions, and rows from different
days are comparable. Each trainee uses all cores in its own way.

Data loading, forward and backward pass, optimiser and EMA count. Evaluation, checkpoints, sampling and scoring do not.
The set-up, which ends with the first step, counts only if something is learned in it.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import product
from math import ceil
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from benchmarks.core.clock import Clock
from benchmarks.core.experiments import Values, params_with, settings
from benchmarks.core.ledger import Ledger, Row
from benchmarks.core.options import count, parser, positive
from ddpm.data.dataset import SPLITS, ImageDataset, load_dataset
from ddpm.errors import UserError
from ddpm.run.compute import set_up
from ddpm.run.processes import cores, of_first, rank, together
from ddpm.run.resume.state import TrainingState
from ddpm.run.seeding import derive_seed
from ddpm.run.stage import mistakes_in_one_line
from ddpm.training.loop import start_training, training_steps
from ddpm.training.train_model import TrainModel, build_model, examples

WARM_UP = 2  # uncounted steps, in which memory is allocated and kernels are chosen
DATA = {split: Path(f"data/images/{split}.safetensors") for split in SPLITS}
Started = tuple[TrainingState, Iterator[object]]  # a training state, and an iterator that takes its remaining steps
Measured = tuple[float, float, int]  # seconds until the end of the first step, seconds per later step, parameters


class Trainee(ABC):
    """Something that trains on images.

    Attributes:
        name: Its name in tables.
        settings: Identifies its settings.
        batch_size: Images per step.
        set_up_counts: Whether the set-up counts as training, because something is learned in it.
    """

    name: str
    settings: str
    batch_size: int
    set_up_counts: bool = False

    @abstractmethod
    def start(self, train: ImageDataset, n_steps: int, seed: int) -> Started:
        """Build it, for training up to step `n_steps`."""

    def measure(self, train: ImageDataset, seconds: float) -> Measured:
        """Measure its training speed (see `measure_once`)."""
        return measure_once(self, train, seconds)


class Ours(Trainee):
    """Stage train_unet with `changes` to params.yaml."""

    def __init__(self, name: str, changes: Values) -> None:
        self.params, self.changes = params_with(changes), changes
        self.name, self.settings = name, settings(("train_unet",), changes)
        self.batch_size = self.params.train_unet.batch_size
        self.set_up_counts = self.params.train_unet.conditioning is not None

    def start(self, train: ImageDataset, n_steps: int, seed: int) -> Started:
        compute = set_up(self.params.device, self.params.precision)
        params = self.params.train_unet.model_copy(update={"epochs": n_steps / ceil(len(train) / self.batch_size)})
        seed = derive_seed(seed, "train_unet")
        model = build_model(params, train, seed)
        state = start_training(model, params, compute)
        return state, training_steps(state, params, examples(model, train), seed, compute)

    def measure(self, train: ImageDataset, seconds: float) -> Measured:  # noqa: ARG002
        """Measure its training speed with processes that share the work, as in a run of the stage."""
        n = min(cores(), self.params.train_unet.micro_batches)
        words = ["--standalone", "--nproc-per-node", str(n), "-m", "benchmarks.core.rates", json.dumps(self.changes)]
        command = [sys.executable, "-m", "torch.distributed.run", *words, "--seconds", str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"{self.name}: {done.stderr.strip().splitlines()[-1]}")
        until_first, step, parameters = json.loads(done.stdout.splitlines()[-1])
        return until_first, step, parameters


def of_length(params: TrainModel, n_images: int, n_steps: int) -> dict[str, Any]:
    """Changes to `params` for a run of `n_steps`. The warm-up scales with the length."""
    per_epoch = ceil(n_images / params.batch_size)
    ratio = n_steps / max(1, round(params.epochs * per_epoch))
    return {"epochs": n_steps / per_epoch, "warmup_steps": round(params.warmup_steps * ratio)}


def steps_in(minutes: float, rate: Row) -> int:
    """The number of steps in `minutes` at steady speed, at least one."""
    seconds = minutes * 60 - (float(rate["set_up_seconds"]) if rate["set_up_counts"] == "True" else 0)
    return max(1, round(seconds / float(rate["seconds_per_image"]) / int(rate["batch_size"])))


class Rates(Ledger):
    """All measurements of training speed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ("contender", "settings", "measured"))

    def of(self, trainee: Trainee) -> Row:
        """The newest rate of a trainee with its current settings.

        Raises:
            UserError: There is none.
        """
        for row in reversed(self.rows()):
            if (row["contender"], row["settings"]) == (trainee.name, trainee.settings):
                return row
        raise UserError(f"{self.path}: no rate for {trainee.name} with these settings; measure it with `rate` first")

    def measure(self, asked: argparse.Namespace, trainees: Sequence[Trainee], train: ImageDataset) -> None:
        """Measure all rates in phase "rate", and in phase "all" if one is missing.

        The trainees are measured in turn, in `rounds` rounds of `seconds` each, and the median is recorded.
        """
        have = [(row["contender"], row["settings"]) for row in self.rows()]
        missing = any((trainee.name, trainee.settings) not in have for trainee in trainees)
        if asked.phase != "rate" and not (asked.phase == "all" and missing):
            return
        found: dict[str, list[Measured]] = {trainee.name: [] for trainee in trainees}
        for number, trainee in product(range(asked.rounds), trainees):
            found[trainee.name].append(trainee.measure(train, asked.seconds))
            speed = trainee.batch_size / found[trainee.name][-1][1]
            print(f"round {number + 1} of {asked.rounds}: {trainee.name} {speed:.1f} images/s", flush=True)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        for trainee in trainees:
            set_ups, steps, parameters = zip(*found[trainee.name], strict=True)
            values = {
                "batch_size": trainee.batch_size,
                "parameters": parameters[0],
                "seconds_per_image": median(steps) / trainee.batch_size,
                "slowest": max(steps) / median(steps),  # above 1.1: the machine was not idle
                "set_up_seconds": median(set_ups),
                "set_up_counts": trainee.set_up_counts,
                "machine": machine(),
            }
            self.add({"contender": trainee.name, "settings": trainee.settings, "measured": now}, values)


def rate_options(doc: str | None, names: Sequence[str]) -> argparse.ArgumentParser:
    """A parser with the phases rate, run and report, and the options for measuring rates."""
    options = parser(doc)
    phases = "all", "rate", "run", "report"
    options.add_argument("phase", nargs="?", choices=phases, default="all", help="all: missing rates, runs and report")
    options.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help="%(choices)s")
    options.add_argument("--rounds", type=count, default=5, help="rounds of `rate`")
    options.add_argument("--seconds", type=positive, default=15.0, help="seconds of each round of `rate`")
    return options


def measure_once(
    trainee: Trainee, train: ImageDataset, seconds: float, now: Callable[[], float] = time.perf_counter
) -> Measured:
    """Train for `seconds`. The first process decides when to stop."""
    began = now()
    state, steps = trainee.start(train, 10_000, 0)
    clock = Clock(steps, now)
    next(clock)
    until_first = now() - began
    while of_first(len(clock.laps) < WARM_UP + 2 or sum(clock.laps[WARM_UP:]) < seconds):
        next(clock)
    parameters = sum(parameter.numel() for parameter in state.modules["model"].parameters())
    return until_first, mean(clock.laps[WARM_UP:]), parameters


def machine(device: torch.device = torch.device("cpu")) -> str:
    """A description of the processor, cores and torch version."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    cpu = f"{(names or [platform.machine()])[0]} ({torch.backends.cpu.get_cpu_capability()})"
    return f"{cpu}, {cores()} cores, torch {torch.__version__}"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("changes", type=json.loads, help="changes to params.yaml")
    options.add_argument("--seconds", type=positive, default=15.0)
    asked = options.parse_args()
    with together(1, 1024):
        found = measure_once(Ours("ours", asked.changes), load_dataset(DATA["train"]), asked.seconds)
    if not rank():
        print(json.dumps(found))


if __name__ == "__main__":
    with mistakes_in_one_line("rates"):
        main()
