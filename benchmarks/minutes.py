"""Quality after 1, 2, 5, 10 and 20 minutes of training on two CPU cores: this project, three public ones, the course's.

    make benchmark                          # everything; or piece by piece:
    python benchmarks/minutes.py rate       # how fast each trains, on a quiet machine
    python benchmarks/minutes.py run --only diffusers --minutes 1 2
    python benchmarks/minutes.py report     # the table and the figure of the rows that are there

The clock. `rate` measures how many seconds each contender's training takes an image: data, forward and backward pass,
optimiser and EMA, in its steady state, several rounds in turn within one window, of which the median counts. `run` then
gives each contender as many images as it sees in those minutes: minutes x 60 / (seconds an image). So neither other
work on the machine nor an interruption changes a result, and rows can be made one by one, at low priority, with all
cores or one. The seconds that training really took stand beside each row. Not timed: building the network and the
first steps (told apart, as `set-up`), fetching the data, drawing and scoring.

Ours has a learning rate that falls to zero, so each number of minutes is a run of its own; the peers' is constant, and
one run passes through all of them. Everything is kept in .benchmark/: a run that is killed goes on from where it was a
minute before, a row that is there for the same settings, rate, samples and classifier is not made again. Writes
reports/benchmark/ and the result in docs/benchmark.md.
"""

import argparse
import csv
import json
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import torch
from contenders import COURSE, DRAW_BATCH, OURS, Contender, Draw, own_contenders
from filelock import FileLock, Timeout
from peers import PEERS
from report import FLOOR, figure, insert, markdown
from torch import Tensor
from tqdm import tqdm
from watch import Enough, Keeper, Stopwatch

from ddpm.compute import set_up
from ddpm.config import Params, load_params
from ddpm.errors import UserError
from ddpm.evaluation.features import CLASSES, Described, describe, load_classifier
from ddpm.evaluation.metrics import class_distance, estimate, fid, frequencies
from ddpm.figures.canvas import save
from ddpm.files import load_tensors, save_tensors, write_csv, write_json
from ddpm.sections import LEAST_SAMPLES

KEPT, REPORTS, DOC = Path(".benchmark"), Path("reports/benchmark"), Path("docs/benchmark.md")
RATES, ROWS = REPORTS / "rate.json", REPORTS / "minutes.csv"
NAMES = (OURS, COURSE, *PEERS)
MINUTES, SEEDS = (1.0, 2.0, 5.0, 10.0, 20.0), (0, 1, 2)
N_HALVES = 20
KEY = ("contender", "settings", "minutes", "seed", "steps", "n_samples", "extractor")
SCORES = ("fid_fashion_cnn", "low", "high", "class_distance")
COLUMNS = (*KEY, "images", *SCORES, "train_seconds", "draw_seconds")


def main() -> None:
    options = arguments()
    KEPT.mkdir(exist_ok=True)
    try:
        with FileLock(KEPT / "lock", timeout=0):
            work(options)
    except Timeout:
        raise UserError(f"another benchmark is running here; it holds {KEPT / 'lock'}") from None


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    phases = "all", "rate", "run", "report"
    parser.add_argument(
        "phase", nargs="?", choices=phases, default="all", help="all: measure rates if missing, and run"
    )
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--minutes", type=float, nargs="+", default=list(MINUTES), help="of training")
    parser.add_argument(
        "--seeds", type=int, nargs="+", help="of training; 0 1 2 for ours and 0 for others, if not given"
    )
    parser.add_argument("--n-samples", type=int, default=1024, help=f"images a row, {LEAST_SAMPLES} to 5000")
    parser.add_argument("--rounds", type=int, default=5, help="of `rate`, each through all contenders")
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="of `rate`, a contender and round, at least two steps"
    )
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


def work(options: argparse.Namespace) -> None:
    if options.phase == "report":
        return report(options.n_samples)
    params = load_params()
    images = load_tensors(Path("data/fashion_mnist/train.safetensors"))["images"]
    train_images, unseen = images[: params.train_unet.n_train], images[params.train_unet.n_train :]
    if options.n_samples > len(unseen):
        raise UserError(f"--n-samples is {options.n_samples}; {len(unseen)} real images were not trained on")
    contenders = chosen(options.only, params)
    stale = [name for name, contender in contenders.items() if rate_of(contender) is None]
    if options.phase == "rate" or (options.phase == "all" and stale):
        measure(list(contenders.values()), train_images, options.rounds, options.seconds)
    elif stale:
        raise UserError(f"{RATES}: no rate for {', '.join(stale)} as set now; run `benchmarks/minutes.py rate` first")
    if options.phase == "rate":
        return None
    evaluator = Evaluator(params)
    rows = read(ROWS)
    for cell in cells(contenders, options, evaluator.extractor):
        if find(rows, cell) is None:
            rows.append(make(cell, contenders, train_images, unseen, evaluator))
            write_csv(ROWS, COLUMNS, ([row[name] for name in COLUMNS] for row in rows))
            print(*(f"{name} {rows[-1][name]}" for name in ("contender", "minutes", "seed", *SCORES)), flush=True)
            report(options.n_samples)
    return report(options.n_samples)


def chosen(names: Sequence[str], params: Params) -> dict[str, Contender]:
    """The contenders of these names, in the order of NAMES."""
    own = {contender.name: contender for contender in own_contenders()}
    wanted = [name for name in NAMES if name in names]
    return {name: own[name] if name in own else PEERS[name](params.threads) for name in wanted}


def measure(contenders: Sequence[Contender], images: Tensor, rounds: int, seconds: float) -> None:
    """Write the rates of `contenders`, measured in turn, beside those of others that are there."""
    found: dict[str, list[Stopwatch]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        for contender in contenders:
            watch = Stopwatch(seconds)
            try:
                contender.train(images, 10_000, 0, watch)
            except Enough:
                found[contender.name].append(watch)
            rate = contender.batch_size / watch.step_seconds
            print(f"round {number + 1} of {rounds}: {contender.name} {rate:.1f} images/s", flush=True)
    rates = load_rates()
    rates["machine"] = machine()
    for contender in contenders:
        watches = found[contender.name]
        each = [watch.step_seconds / contender.batch_size for watch in watches]
        if max(each) > 1.1 * median(each):
            print(f"{contender.name}: the slowest round is {max(each) / median(each) - 1:.0%} off: not a quiet machine")
        rates["contenders"][contender.name] = {
            "digest": contender.digest(),
            "settings": contender.settings,
            "batch_size": contender.batch_size,
            "parameters": watches[0].parameters,
            "seconds_per_image": median(each),
            "rounds": each,
            "set_up_seconds": watches[0].set_up,
            "date": date.today().isoformat(),
        }
    write_json(RATES, rates)


def cells(contenders: Mapping[str, Contender], options: argparse.Namespace, extractor: str) -> Iterator[dict[str, str]]:
    """The keys of all rows that are asked for."""
    rest = {"n_samples": str(options.n_samples), "extractor": extractor}
    yield _spelled(contender=FLOOR, settings="", minutes=0, seed=0, steps=0) | rest
    for name, contender in contenders.items():
        for seed in options.seeds or (SEEDS if name == OURS else SEEDS[:1]):
            for minutes in sorted(set(options.minutes)):
                n_steps = steps(minutes, rate_of(contender) or 1.0, contender.batch_size)
                spelled = f"{minutes:g}"
                key = _spelled(contender=name, settings=contender.digest(), minutes=spelled, seed=seed, steps=n_steps)
                yield key | rest


def steps(minutes: float, seconds_per_image: float, batch_size: int) -> int:
    """Steps that a contender makes in so many minutes of its own steady speed."""
    return max(1, round(minutes * 60 / seconds_per_image / batch_size))


def make(
    cell: Mapping[str, str],
    contenders: Mapping[str, Contender],
    train_images: Tensor,
    unseen: Tensor,
    evaluator: "Evaluator",
) -> dict[str, str]:
    """Train, draw and score: one row."""
    count = int(cell["n_samples"])
    if cell["contender"] == FLOOR:
        return cell | _spelled(images=0, **evaluator.score(unseen[:count]), train_seconds=0, draw_seconds=0)
    contender, seed, n_steps = contenders[cell["contender"]], int(cell["seed"]), int(cell["steps"])
    run = f"{contender.name}-{contender.digest()}-{seed}"
    keeper = Keeper(KEPT / "states" / (f"{run}-{n_steps}" if contender.planned else run), n_steps)
    draw = contender.train(train_images, n_steps, seed, keeper)
    samples, seconds = drawn(draw, count, seed, KEPT / "samples" / f"{run}-{n_steps}.safetensors")
    spent = {"train_seconds": f"{keeper.seconds:.1f}", "draw_seconds": f"{seconds:.1f}"}
    return cell | _spelled(images=n_steps * contender.batch_size, **evaluator.score(samples), **spent)


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


class Evaluator:
    """Scores samples by the features of the pipeline's classifier, against the 10,000 test images."""

    def __init__(self, params: Params) -> None:
        self._compute = set_up("cpu", "fp32", params.threads)
        self._classifier, self.extractor = load_classifier(Path("models/classifier.safetensors"))
        self._test = self._describe(load_tensors(Path("data/fashion_mnist/test.safetensors"))["images"])

    def score(self, images: Tensor) -> dict[str, float]:
        """Values of SCORES; `low` and `high` bound the sampling error of the distance, not that of training."""
        found = self._describe(images)
        value = estimate(lambda x: fid(self._test.features, x), found.features, N_HALVES, 0)
        off = class_distance(frequencies(self._test.classes, len(CLASSES)), found.classes)
        return dict(zip(SCORES, (value.value, value.low, value.high, off), strict=True))

    def _describe(self, images: Tensor) -> Described:
        return describe(self._classifier, images, self._compute)


def report(n_samples: int) -> None:
    """Table and figure of the rows that belong to the rates that are there, each with `n_samples` samples."""
    rates, rows = load_rates(), [row for row in read(ROWS) if row["n_samples"] == str(n_samples)]
    floors = [row for row in rows if row["contender"] == FLOOR]
    if not floors:
        raise UserError(f"{ROWS}: no rows with {n_samples} samples yet; run `benchmarks/minutes.py` first")
    floor, current = floors[-1], []
    for row in rows:
        rate = rates["contenders"].get(row["contender"])
        if rate and row["extractor"] == floor["extractor"] and row["settings"] == rate["digest"]:
            expected = steps(float(row["minutes"]), rate["seconds_per_image"], rate["batch_size"])
            current += [row] if row["steps"] == str(expected) else []
    if current:
        picture = "![Quality against minutes of training](../reports/benchmark/minutes.png)"
        insert(DOC, f"{markdown(current, floor, rates)}\n\n{picture}")
        save(figure(current, floor, rates["machine"]), REPORTS / "minutes.png")


def load_rates() -> dict[str, Any]:
    return json.loads(RATES.read_text()) if RATES.exists() else {"machine": machine(), "contenders": {}}


def rate_of(contender: Contender) -> float | None:
    """Seconds an image, if they were measured with the settings of now."""
    found = load_rates()["contenders"].get(contender.name)
    return found["seconds_per_image"] if found and found["digest"] == contender.digest() else None


def machine() -> str:
    """Processor, cores and torch, in words."""
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"{(names or [platform.machine()])[0]}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def find(rows: Sequence[Mapping[str, str]], cell: Mapping[str, str]) -> Mapping[str, str] | None:
    return next((row for row in rows if all(row[name] == cell[name] for name in KEY)), None)


def read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _spelled(**values: object) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"minutes: {error}")
    except KeyboardInterrupt:
        sys.exit("minutes: stopped; run it again to go on")
