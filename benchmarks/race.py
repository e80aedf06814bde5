"""Quality after some minutes of training: what the benchmark of the peers and the table of leads have in common.

The clock. `measure` finds how many seconds each contender's training takes an image: data, forward and backward pass,
optimiser and EMA, in its steady state, several rounds in turn within one window, of which the median counts. `run` then
gives each contender as many images as it sees in those minutes: minutes x 60 / (seconds an image). So neither other
work on the machine nor an interruption changes a result, and rows can be made one by one, at low priority, with all
cores or one. The seconds that training really took stand beside each row. Not timed: building the network and the
first step (told apart, as `set-up`), unless a contender learns something there; fetching the data, drawing, scoring.

Everything is kept in .benchmark/: a run that is killed goes on from where it was a minute before, a row that is there
for the same settings, rate, samples and classifier is not made again.
"""

import argparse
import csv
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import torch
from contenders import DRAW_BATCH, Contender, Draw
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm
from watch import Enough, Keeper, Stopwatch

from ddpm.run.compute import set_up
from ddpm.errors import UserError
from ddpm.evaluation.classifier import CLASSES, describe, load_classifier
from ddpm.evaluation.metrics import class_distance, estimate, fid, frequencies, precision, recall
from ddpm.run.files import load_tensors, save_tensors, write_csv, write_json
from ddpm.sections import LEAST_SAMPLES

KEPT = Path(".benchmark")
FLOOR = "real images"
N_HALVES = 20
KEY = ("contender", "settings", "minutes", "seed", "steps", "n_samples", "extractor")
SCORES = ("fid_fashion_cnn", "low", "high", "class_distance", "precision", "recall")
COLUMNS = (*KEY, "images", *SCORES, "train_seconds", "draw_seconds")
Row = Mapping[str, str]


class Evaluator:
    """Scores samples by the features of the pipeline's classifier, against the images of `reference`."""

    def __init__(self, reference: Tensor, threads: int) -> None:
        set_up("cpu", "fp32", threads)
        self._classifier, self.extractor = load_classifier(Path("models/classifier.safetensors"))
        self._reference = describe(self._classifier, reference)

    def score(self, images: Tensor) -> dict[str, float]:
        """Values of SCORES; `low` and `high` bound the sampling error of the distance, not that of training.

        Precision and recall take as many reference images as there are samples, from their start.
        """
        found = describe(self._classifier, images)
        value = estimate(lambda x: fid(self._reference.features, x), found.features, N_HALVES, 0)
        off = class_distance(frequencies(self._reference.classes, len(CLASSES)), found.classes)
        manifolds = [
            measure(self._reference.features[: len(images)], found.features) for measure in (precision, recall)
        ]
        return dict(zip(SCORES, (value.value, value.low, value.high, off, *manifolds), strict=True))


@dataclass(frozen=True)
class Images:
    """8-bit: those to train on, those that stand for a perfect model, those that samples are held against."""

    train: Tensor
    real: Tensor
    reference: Tensor


@dataclass(frozen=True)
class Race:
    """Contenders that are judged alike, and what is known of them: rate.json and minutes.csv in `folder`."""

    folder: Path
    contenders: Mapping[str, Contender]

    @property
    def _rows(self) -> Path:
        return self.folder / "minutes.csv"

    def all_rates(self) -> dict[str, Any]:
        path = self.folder / "rate.json"
        return json.loads(path.read_text()) if path.exists() else {"machine": machine(), "contenders": {}}

    def rate(self, name: str) -> Mapping[str, Any] | None:
        """What was measured of a contender, if it was with the settings of now."""
        found = self.all_rates()["contenders"].get(name)
        return found if found and found["digest"] == self.contenders[name].digest() else None

    def rated(self, options: argparse.Namespace, images: Tensor) -> bool:
        """Measure rates where that is asked for or, for `all`, where one is missing; whether rows are to be made."""
        if options.phase == "rate" or (options.phase == "all" and None in map(self.rate, self.contenders)):
            self.measure(images, options.rounds, options.seconds)
        return options.phase != "rate"

    def measure(self, images: Tensor, rounds: int, seconds: float) -> None:
        """Write the rates of the contenders, measured in turn, beside those of others that are there."""
        found: dict[str, list[Stopwatch]] = {name: [] for name in self.contenders}
        for number in range(rounds):
            for name, contender in self.contenders.items():
                watch = Stopwatch(seconds)
                try:
                    contender.train(images, 10_000, 0, watch)
                except Enough:
                    found[name].append(watch)
                rate = contender.batch_size / watch.step_seconds
                print(f"round {number + 1} of {rounds}: {name} {rate:.1f} images/s", flush=True)
        rates = self.all_rates()
        rates["machine"] = machine()
        for name, contender in self.contenders.items():
            each = [watch.step_seconds / contender.batch_size for watch in found[name]]
            if max(each) > 1.1 * median(each):
                print(f"{name}: the slowest round is {max(each) / median(each) - 1:.0%} off: not a quiet machine")
            rates["contenders"][name] = {
                "digest": contender.digest(),
                "settings": contender.settings,
                "batch_size": contender.batch_size,
                "parameters": found[name][0].parameters,
                "seconds_per_image": median(each),
                "rounds": each,
                "set_up_seconds": median(watch.set_up for watch in found[name]),
                "set_up_counts": contender.set_up_counts,
                "date": date.today().isoformat(),
            }
        write_json(self.folder / "rate.json", rates)

    def run(
        self,
        images: Images,
        evaluator: Evaluator,
        minutes: Sequence[float],
        seeds: Callable[[str], Sequence[int]],
        n_samples: int,
    ) -> Iterator[Row]:
        """Make the rows that are not there: of real images, then of each contender, seed and number of minutes.

        Raises UserError where a contender's rate is not known, before any work.
        """
        if unknown := [name for name in self.contenders if self.rate(name) is None]:
            raise UserError(
                f"{self.folder / 'rate.json'}: no rate for {', '.join(unknown)} as set now; run this with `rate` first"
            )
        rest = {"n_samples": str(n_samples), "extractor": evaluator.extractor}
        cells = [spelled(contender=FLOOR, settings="", minutes=0, seed=0, steps=0) | rest]
        for name, contender in self.contenders.items():
            rate = self.rate(name)
            assert rate is not None
            for seed in seeds(name):
                for budget in sorted(set(minutes)):
                    n_steps = steps(budget, rate)
                    place = {"minutes": f"{budget:g}", "seed": seed, "steps": n_steps}
                    cells.append(spelled(contender=name, settings=contender.digest(), **place) | rest)
        rows = read(self._rows)
        for cell in cells:
            if any(all(row[key] == cell[key] for key in KEY) for row in rows):
                continue
            rows.append(self.make(cell, images, evaluator))
            write_csv(self._rows, COLUMNS, ([row[column] for column in COLUMNS] for row in rows))
            print(*(f"{key} {rows[-1][key]}" for key in ("contender", "minutes", "seed", *SCORES)), flush=True)
            yield rows[-1]

    def make(self, cell: Row, images: Images, evaluator: Evaluator) -> dict[str, str]:
        """Train, draw and score: one row."""
        count = int(cell["n_samples"])
        if cell["contender"] == FLOOR:
            return {
                **cell,
                **spelled(images=0, **evaluator.score(images.real[:count]), train_seconds=0, draw_seconds=0),
            }
        contender, seed, n_steps = self.contenders[cell["contender"]], int(cell["seed"]), int(cell["steps"])
        run = f"{contender.name}-{contender.digest()}-{seed}"
        keeper = Keeper(KEPT / "states" / (f"{run}-{n_steps}" if contender.planned else run), n_steps)
        draw = contender.train(images.train, n_steps, seed, keeper)
        samples, seconds = drawn(draw, count, seed, KEPT / "samples" / f"{run}-{n_steps}.safetensors")
        spent = {"train_seconds": f"{keeper.seconds:.1f}", "draw_seconds": f"{seconds:.1f}"}
        return {**cell, **spelled(images=n_steps * contender.batch_size, **evaluator.score(samples), **spent)}

    def rows(self, n_samples: int) -> tuple[Row, list[Row]]:
        """That of real images, and those of the rates that are there, each with `n_samples` samples."""
        rates, rows = self.all_rates(), [row for row in read(self._rows) if row["n_samples"] == str(n_samples)]
        floors = [row for row in rows if row["contender"] == FLOOR]
        if not floors:
            raise UserError(f"{self._rows}: no rows with {n_samples} samples yet")
        current = []
        for row in rows:
            rate = rates["contenders"].get(row["contender"])
            if rate and row["extractor"] == floors[-1]["extractor"] and row["settings"] == rate["digest"]:
                current += [row] if row["steps"] == str(steps(float(row["minutes"]), rate)) else []
        return floors[-1], current


def common_arguments(description: str | None, names: Sequence[str]) -> argparse.ArgumentParser:
    """The options of every race; `checked` looks at their values."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    phases = "all", "rate", "run", "report"
    about = "all: measure rates if missing, and run"
    parser.add_argument("phase", nargs="?", choices=phases, default="all", help=about)
    parser.add_argument("--only", nargs="+", choices=names, default=list(names), metavar="NAME", help=", ".join(names))
    parser.add_argument("--n-samples", type=int, default=1024, help="images a row")
    parser.add_argument("--seeds", type=int, nargs="+", help="of training")
    parser.add_argument("--rounds", type=int, default=5, help="of `rate`, each through all contenders")
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="of `rate`, a contender and round, at least two steps"
    )
    return parser


def checked(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What was asked for; exits with one line where a number makes no sense."""
    options = parser.parse_args()
    if not LEAST_SAMPLES <= options.n_samples <= 5000:
        parser.error(f"--n-samples is {options.n_samples}; give {LEAST_SAMPLES} to 5000")
    if min(options.minutes) <= 0 or max(options.minutes) > 10_000:
        parser.error(f"--minutes is {options.minutes}; give numbers above 0, at most 10000")
    if options.seeds is not None and min(options.seeds) < 0:
        parser.error(f"--seeds is {options.seeds}; give numbers from 0 on")
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds must be at least 1 and --seconds above 0")
    return options


def alone(work: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> None:
    """Do `work`, unless another race runs in this copy of the project."""
    KEPT.mkdir(exist_ok=True)
    try:
        with FileLock(KEPT / "lock", timeout=0):
            work(options)
    except Timeout:
        raise UserError(f"another benchmark is running here; it holds {KEPT / 'lock'}") from None


def splits(n_train: int) -> tuple[Tensor, Tensor, Tensor]:
    """8-bit: the first `n_train` images of the training split, the rest, which nobody trains on, and the test split."""
    folder = Path("data/fashion_mnist")
    train, test = (load_tensors(folder / f"{split}.safetensors")["images"] for split in ("train", "test"))
    return train[:n_train], train[n_train:], test


def steps(minutes: float, rate: Mapping[str, Any]) -> int:
    """Steps that a contender makes in so many minutes of its own steady speed, at least one."""
    seconds = minutes * 60 - (rate["set_up_seconds"] if rate["set_up_counts"] else 0)
    return max(1, round(seconds / rate["seconds_per_image"] / rate["batch_size"]))


def drawn(draw: Draw, count: int, seed: int, path: Path) -> tuple[Tensor, float]:
    """`count` samples and the seconds that they took; those in `path` are not drawn again, and all end there."""
    batches, seconds = [], 0.0
    if path.exists():
        kept = load_tensors(path)
        batches, seconds = list(kept["samples"].split(DRAW_BATCH)), kept["seconds"].item()
    with tqdm(total=count, initial=min(count, len(batches) * DRAW_BATCH), desc="draw", disable=None) as progress:
        while len(batches) * DRAW_BATCH < count:
            began = time.monotonic()
            batches.append(draw(len(batches), seed))
            seconds += time.monotonic() - began
            save_tensors(path, samples=torch.cat(batches), seconds=torch.tensor(seconds))
            progress.update(DRAW_BATCH)
    return torch.cat(batches)[:count], seconds


def machine() -> str:
    """Processor, cores and torch, in words."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{(names or [platform.machine()])[0]}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def spelled(**values: object) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}
