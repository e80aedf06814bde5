"""Training throughput as a share of what this machine's convolutions can do, and where the rest of the time goes.

    python benchmarks/throughput.py

Peak and training are measured in turn, and compared round by round. Times are of the wall clock, on a machine that
should do nothing else; with `threads: 1` on a CPU they are the processor's, which other work disturbs less. Images are
random numbers. Writes reports/throughput/.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from math import ceil
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from dvc.utils.hydra import apply_overrides
from start_up import start_up
from torch import Tensor, nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

from ddpm import recipes
from ddpm.run.tracking import record as tracking
from ddpm.run.compute import Compute, set_up
from ddpm.run.params import Params, load_params
from ddpm.errors import UserError
from ddpm.run.files import atomic_path, write_json
from ddpm.networks.model import labelled
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.run.stage import peak_memory_mib
from ddpm.run.resume.context import Resume
from ddpm.sections import TrainUnet
from ddpm.training.loop import Log, fit

REPORTS = Path("reports/throughput")
SHAPE = (1, 28, 28)
CONVOLUTIONS = ((64, 14), (128, 14), (256, 14), (128, 28), (256, 28))  # 3x3: channels, size of the maps
PEAK_SECONDS = 0.3  # on each of them, in each round
OPERATORS = {  # of a profile: the first that is part of the name
    "convolution_backward": "convolution backward",
    "convolution": "convolution forward",
    "group_norm": "GroupNorm",
    "silu": "SiLU",
    "scaled_dot_product": "attention",
    "mm": "linear layers",
}
ROW = {  # of the table of throughput: its columns, and how they are written
    "batch": "{}",
    "images/s": "{:.0f}",
    "GFLOP/s": "{:.0f}",
    "of the peak": "{:.0%}",
    "peak memory, MiB": "{:,.0f}",
    "first two steps, s": "{:.0f}",
}


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        params = recipe(options.recipe, folder)
        compute = set_up(params.device, params.precision, params.threads)
        result: dict[str, Any] = {"date": datetime.now(UTC).date().isoformat(), "machine": machine(compute.device)}
        result |= {"threads": params.threads, "precision": compute.precision}
        result |= {"recipe": options.recipe or "default", "compiled": options.compile}
        os.environ.update(DVC_ROOT=name, MLFLOW_TRACKING_URI="sqlite:///mlflow.db")
        result |= training(params.train_unet, compute, options, folder)
        result["start_up_seconds"] = start_up()
    write_json(REPORTS / "throughput.json", result)
    with atomic_path(REPORTS / "throughput.md") as temporary:
        temporary.write_text(markdown(result))
    print(markdown(result))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", help="one of recipes/; the default is params.yaml")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="of training, in each round")
    parser.add_argument("--compile", action="store_true", help="train with torch.compile")
    options = parser.parse_args()
    if min(options.rounds, options.steps, *options.batch_sizes) < 1:
        parser.error("--rounds, --steps and --batch-sizes must be at least 1")
    return options


def recipe(name: str | None, folder: Path) -> Params:
    """params.yaml with the recipe's values, by way of a copy in `folder`, as `dvc exp run -S` sets them."""
    path = Path(shutil.copy("params.yaml", folder))
    if name is not None:
        apply_overrides(str(path), recipes.overrides(recipes.load(name))[1::2])
    return load_params(path)


def training(params: TrainUnet, compute: Compute, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All about the training itself: peak, throughput, profile, and what is done beside it."""
    on_cpu = compute.device.type == "cpu"
    clock = time.process_time if on_cpu and torch.get_num_threads() == 1 else time.perf_counter
    images = torch.randint(256, (params.n_train, *SHAPE), dtype=torch.uint8)
    labels = torch.arange(60_000) % (network(params).n_classes or 1)

    def steps(
        batch_size: int, n: int, evaluate: bool = False, resume: Resume | None = None, log: Log | None = None
    ) -> Clock:
        """n steps, and one before them that is not timed."""
        changes = {"batch_size": batch_size, "epochs": (n + 1) / ceil(len(images) / batch_size)}
        chosen = params.model_copy(update={**changes, "log_interval": 1, "img_log_interval": 1})
        held_out = torch.rand(params.n_eval, *SHAPE) * 2 - 1 if evaluate else None
        model, watch = network(params), Clock(log, clock)
        if options.compile:
            model.compile()
        fit(model, chosen, images, held_out, 0, compute, watch, resume, labels, labels)
        return watch

    sizes, first, memory = sorted({*options.batch_sizes, params.batch_size}), {}, {}
    for batch_size in sizes:
        start = clock()
        steps(batch_size, 1)
        first[batch_size] = clock() - start
        memory[batch_size] = peak_memory_mib() if on_cpu else torch.cuda.max_memory_allocated() / 2**20
    peaks: list[dict[str, float]] = []
    seconds: dict[int, list[float]] = {batch_size: [] for batch_size in sizes}
    for _ in range(options.rounds):
        peaks.append({name: peak(Compute(compute.device, name), clock) for name in precisions(compute)})
        for batch_size in sizes:
            seconds[batch_size].append(steps(batch_size, options.steps).step)
    gflop = flops(labelled(network(params), labels[:1]), torch.zeros(1, *SHAPE), torch.ones(1)) / 1e9
    rows = []
    for batch_size, measured in seconds.items():
        rates = [batch_size * gflop / each for each in measured]
        share = median(rate / each[compute.precision] for rate, each in zip(rates, peaks, strict=True))
        row = batch_size, median(rates) / gflop, median(rates), share, memory[batch_size], first[batch_size]
        rows.append(dict(zip(ROW, row, strict=True)))
    with profile() as events:
        steps(params.batch_size, options.steps)
    evaluated = steps(params.batch_size, 3, evaluate=True)
    with Resume("throughput", {}, 0, folder) as resume:
        kept = steps(params.batch_size, 3, resume=resume)
    # Last, for its sender works beside what comes after it, and has more to send than in a stage.
    with tracking.stage_run("throughput", {}) as run:
        logged = steps(params.batch_size, 3, evaluate=True, log=run)
    step = median(seconds[params.batch_size])
    n_steps = params.epochs * ceil(params.n_train / params.batch_size)
    beside = {
        "logging": mean(logged.rows) / params.log_interval,
        "evaluation and previews": (evaluated.step - step + mean(logged.pictures)) / params.img_log_interval,
        "checkpoints": (kept.step - step) * step / max(step, params.checkpoint_seconds),
    }
    return {
        "gflop_per_image": gflop,
        "peak_gflops": {name: median(each[name] for each in peaks) for name in peaks[0]},
        "training": rows,
        "minutes": n_steps * step / 60,
        "profile": shares(events.events(), on_cpu),
        "beside_training": {name: max(0.0, cost) / step for name, cost in beside.items()},
    }


class Clock:
    """A log that notes when each step ends, and the seconds that `log`, if any, takes for rows and pictures."""

    def __init__(self, log: Log | None, clock: Callable[[], float]) -> None:
        self._log, self._clock = log, clock
        self._ends: list[float] = []
        self.rows: list[float] = []
        self.pictures: list[float] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        start = self._clock()
        if self._log:
            self._log.log_metrics(metrics, step)
        if "train_loss" in metrics:
            self._ends.append(start)
            self.rows.append(self._clock() - start)

    def log_image(self, image: Tensor, key: str, step: int) -> None:
        start = self._clock()
        if self._log:
            self._log.log_image(image, key, step)
        self.pictures.append(self._clock() - start)

    @property
    def step(self) -> float:
        """Seconds of a step, the first left out."""
        return median(after - before for before, after in pairwise(self._ends))


def network(params: TrainUnet) -> Unet:
    return Unet(UnetConfig.of(params, SHAPE))


def flops(module: nn.Module, *inputs: Tensor) -> int:
    """Of a forward and a backward pass; a multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter:
        module(*inputs).sum().backward()
    return counter.get_total_flops()


def precisions(compute: Compute) -> list[Any]:
    """fp32, and bf16 where the device has it."""
    try:
        set_up(compute.device.type, "bf16", torch.get_num_threads())
    except UserError:
        return ["fp32"]
    return ["fp32", "bf16"]


@torch.inference_mode()
def peak(compute: Compute, clock: Callable[[], float]) -> float:
    """GFLOP/s of the fastest of CONVOLUTIONS: forward, 16 images, channels_last."""
    device, dtype = compute.device, torch.bfloat16 if compute.precision == "bf16" else torch.float32
    repeats, rates = 100 if device.type == "cuda" else 1, []
    for channels, size in CONVOLUTIONS:
        layer = nn.Conv2d(channels, channels, 3, padding=1).to(device, dtype, memory_format=torch.channels_last)
        x = torch.randn(16, channels, size, size).to(device, dtype, memory_format=torch.channels_last)
        done, start = -1, clock()
        while done < 1 or clock() - start < PEAK_SECONDS:
            for _ in range(repeats):
                layer(x)
            if device.type == "cuda":
                torch.cuda.synchronize()
            done += 1
            start = start if done else clock()  # the first run sets up, and does not count
        rates.append(18 * channels**2 * size**2 * len(x) * repeats * done / (clock() - start) / 1e9)
    return max(rates)


def shares(events: Iterable[FunctionEvent], on_cpu: bool) -> dict[str, float]:
    """Of the time that operators took themselves, by kind, largest first."""
    seconds: Counter[str] = Counter()
    for event in events:
        seconds[kind(event)] += event.self_cpu_time_total if on_cpu else event.self_device_time_total
    return {name: value / seconds.total() for name, value in seconds.most_common()}


def kind(event: FunctionEvent | None) -> str:
    names = []
    while event is not None:  # an operator, the one that called it, and so on
        names.append(event.name)
        event = event.cpu_parent
    if any(name.startswith("Optimizer.step") for name in names):
        return "Muon's matrix products" if "mm" in names[0] else "optimisers, rest"
    return next((OPERATORS[part] for part in OPERATORS for name in names if part in name), "rest")


def machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    about = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*: (.*)", about.read_text() if about.exists() else "")
    return f"{name[1] if name else 'CPU'} ({torch.backends.cpu.get_cpu_capability()})"


def markdown(result: Mapping[str, Any]) -> str:
    """The tables of docs/recipes.md."""
    peaks = ", ".join(f"{value:.0f} GFLOP/s in {name}" for name, value in result["peak_gflops"].items())
    about = (
        f"{result['date']}, {result['machine']}, threads: {result['threads']}, recipe: {result['recipe']}, "
        f"{result['precision']}{', torch.compile' if result['compiled'] else ''}. Peak of a convolution: {peaks}. "
        f"Forward and backward: {result['gflop_per_image']:.3f} GFLOP an image. "
        f"The training takes {result['minutes']:.1f} minutes."
    )
    rows = ([form.format(row[name]) for name, form in ROW.items()] for row in result["training"])
    until_work, whole = (result["start_up_seconds"][which] for which in ("until_work", "whole"))
    starts = (
        (name, f"{until_work[name]:.1f}" if name in until_work else "", "not idle" if v is None else f"{v:.1f}")
        for name, v in whole.items()
    )
    parts = (
        about,
        table(ROW, rows),
        table(("operator", "of the time"), ((name, f"{v:.1%}") for name, v in result["profile"].items())),
        table(("beside the steps", "of their time"), ((n, f"{v:.2%}") for n, v in result["beside_training"].items())),
        table(("start-up", "seconds until the work begins", "seconds in all, without it"), starts),
    )
    return "\n\n".join(parts) + "\n"


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = tuple(columns)
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ("---",) * len(columns), *rows))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"throughput: {error}")
