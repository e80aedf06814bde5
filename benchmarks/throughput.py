"""Training throughput as a share of what this machine's convolutions can do, and where the rest of the time goes.

    python benchmarks/throughput.py

Peak and training are measured in turn, round by round, and compared within a round. Times are of the wall clock, on a
machine that should do nothing else; with `threads: 1` on a CPU they are of the processor, which other work disturbs
less. Images are random numbers. Writes reports/throughput/.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields
from datetime import UTC, datetime
from itertools import pairwise
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import torch
from ruamel.yaml import YAML
from torch import Tensor, nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

from ddpm import recipes, tracking
from ddpm.compute import Compute, set_up
from ddpm.config import Params, load_params, validated
from ddpm.errors import UserError
from ddpm.files import atomic_path, write_json
from ddpm.models.unet import Unet, UnetConfig
from ddpm.pipeline import peak_memory_mib
from ddpm.sections import TrainUnet
from ddpm.training.loop import Log, fit
from ddpm.training.resume import Resume

REPORTS = Path("reports/throughput")
SHAPE = (1, 28, 28)
# Of 3x3 convolutions, (channels, size of the maps); with a few hundred channels a processor is at its best.
CONVOLUTIONS = ((64, 14), (128, 14), (256, 14), (128, 28), (256, 28))
PEAK_SECONDS = 0.3  # on each of them, in each round
OPERATORS = {  # of a profile; the first that a name contains
    "convolution_backward": "convolution backward",
    "convolution": "convolution forward",
    "group_norm": "GroupNorm",
    "silu": "SiLU",
    "scaled_dot_product": "attention",
    "mm": "linear layers",
}
# Runs a stage's script with nothing for the stage to do: its imports, params and tracking are left.
START = """import runpy, sys, ddpm.pipeline as pipeline
whole = pipeline.run_stage
pipeline.run_stage = lambda name, main, reads: whole(name, lambda stage: None, reads)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")"""


def main() -> None:
    options = arguments()
    params = recipe(options.recipe)
    compute = set_up(params.device, params.precision, params.threads)
    clock = time.process_time if compute.device.type == "cpu" and params.threads == 1 else time.perf_counter
    result: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(compute.device),
        "threads": params.threads,
        "recipe": options.recipe or "default",
        "precision": compute.precision,
        "compiled": options.compile,
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(DVC_ROOT=folder, MLFLOW_TRACKING_URI="sqlite:///mlflow.db")
        with tracking.stage_run("throughput", {}) as run:
            result |= training(params.train_unet, compute, options, run, clock, Path(folder))
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


def recipe(name: str | None) -> Params:
    """params.yaml with the recipe's values in place of its own."""
    if name is None:
        return load_params()
    recipes.overrides(name)  # says which there are

    def merged(base: Any, changes: Any) -> Any:
        return base | {key: merged(base[key], value) for key, value in changes.items()} if base_is(changes) else changes

    def base_is(changes: Any) -> bool:
        return isinstance(changes, Mapping)

    yaml = YAML(typ="safe", pure=True)
    paths = Path("params.yaml"), recipes.FOLDER / f"{name}.yaml"
    return validated(Params, merged(*map(yaml.load, paths)), str(paths[1]))


def training(
    params: TrainUnet,
    compute: Compute,
    options: argparse.Namespace,
    run: Log,
    clock: Callable[[], float],
    folder: Path,
) -> dict[str, Any]:
    """Everything about the training itself: peak, throughput, profile, and what logging and its like cost."""
    gflop = sum(flops(network(params)).values()) / 1e9

    def steps(batch_size: int, n: int, evaluate: bool = False, resume: Resume | None = None) -> "Clock":
        watch = Clock(run, clock)
        chosen = params.model_copy(
            update={"batch_size": batch_size, "epochs": n, "log_interval": 1, "img_log_interval": 1}
        )
        images = torch.randint(256, (batch_size, *SHAPE), dtype=torch.uint8)
        held_out = torch.rand(params.n_eval, *SHAPE) * 2 - 1 if evaluate else None
        model = network(params)
        if options.compile:
            model.compile()
        fit(model, chosen, images, held_out, compute=compute, log=watch, resume=resume)
        return watch

    first, memory = {}, {}
    for batch_size in sorted(options.batch_sizes):
        start = clock()
        steps(batch_size, 3)
        first[batch_size], memory[batch_size] = clock() - start, peak_memory(compute.device)
    peaks: list[dict[str, float]] = []
    seconds: dict[int, list[float]] = {batch_size: [] for batch_size in options.batch_sizes}
    for _ in range(options.rounds):
        peaks.append({name: peak(Compute(compute.device, name), clock) for name in precisions(compute)})
        for batch_size in options.batch_sizes:
            seconds[batch_size].append(steps(batch_size, options.steps + 1).step)
    rows = [
        {
            "batch_size": batch_size,
            "images_per_second": batch_size / median(measured),
            "gflops": batch_size * gflop / median(measured),
            "share_of_peak": median(
                batch_size * gflop / s / p[compute.precision] for s, p in zip(measured, peaks, strict=True)
            ),
            "peak_memory_mib": memory[batch_size],
            "first_three_steps_seconds": first[batch_size],  # the compilation is among them
        }
        for batch_size, measured in seconds.items()
    ]
    with profile() as events:
        plain = steps(params.batch_size, options.steps + 1)
    evaluated = steps(params.batch_size, 4, evaluate=True)
    with Resume("throughput", {}, 0, folder) as resume:
        kept = steps(params.batch_size, 4, resume=resume)
    usual = median(seconds.get(params.batch_size) or [steps(params.batch_size, options.steps + 1).step])
    n_steps = params.epochs * ceil(params.n_train / params.batch_size)
    extra = {
        "logging": plain.logging * n_steps / params.log_interval,
        "evaluation and previews": (evaluated.step - usual) * (1 + n_steps // params.img_log_interval),
        "checkpoints": (kept.step - usual) * (1 + n_steps * usual // max(1, params.checkpoint_seconds)),
    }
    return {
        "gflop_per_image": gflop,
        "peak_gflops": {name: median(p[name] for p in peaks) for name in peaks[0]},
        "training": rows,
        "profile": shares(events.events(), compute.device.type == "cuda"),
        "beside_training": {name: max(0.0, cost) / (n_steps * usual) for name, cost in extra.items()},
    }


class Clock:
    """A log that notes when each step ends and what `run`, the log behind it, takes."""

    def __init__(self, run: Log, clock: Callable[[], float]) -> None:
        self._run, self._clock = run, clock
        self._ends: list[float] = []
        self._logging = 0.0

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        start = self._clock()
        self._run.log_metrics(metrics, step)
        if "train_loss" in metrics:
            self._ends.append(start)
            self._logging += self._clock() - start

    def log_image(self, image: Tensor, key: str, step: int) -> None:
        self._run.log_image(image, key, step)

    @property
    def step(self) -> float:
        """Seconds of a step, the first left out."""
        return median(after - before for before, after in pairwise(self._ends))

    @property
    def logging(self) -> float:
        """Seconds of logging one row."""
        return self._logging / len(self._ends)


def network(params: TrainUnet) -> Unet:
    given = {key: tuple(v) if isinstance(v, list) else v for key, v in dict(params).items()}
    names = {field.name for field in fields(UnetConfig)}
    return Unet(UnetConfig(SHAPE, **{key: value for key, value in given.items() if key in names}))


def flops(module: nn.Module, *shape: int) -> dict[str, int]:
    """Of one forward and backward pass for one image, a multiplication and an addition being two, by operator."""
    with FlopCounterMode(display=False) as counter:
        if shape:
            module(torch.zeros(1, *shape, requires_grad=True)).sum().backward()
        else:
            module(torch.zeros(1, *SHAPE), torch.ones(1)).sum().backward()
    return {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}


def precisions(compute: Compute) -> list[Any]:
    """fp32, and bf16 where set_up takes it."""
    try:
        set_up(compute.device.type, "bf16", torch.get_num_threads())
    except UserError:
        return ["fp32"]
    return ["fp32", "bf16"]


def peak(compute: Compute, clock: Callable[[], float]) -> float:
    """GFLOP/s of the fastest of CONVOLUTIONS, forward, batch 64, channels_last."""
    return max(convolution_gflops(compute, clock, *convolution) for convolution in CONVOLUTIONS)


@torch.inference_mode()
def convolution_gflops(compute: Compute, clock: Callable[[], float], channels: int, size: int) -> float:
    dtype = torch.bfloat16 if compute.precision == "bf16" else torch.float32
    where: dict[str, Any] = {"device": compute.device, "dtype": dtype, "memory_format": torch.channels_last}
    layer = nn.Conv2d(channels, channels, 3, padding=1).to(**where)
    x = torch.randn(64, channels, size, size).to(**where)
    wait = torch.cuda.synchronize if compute.device.type == "cuda" else nullcontext
    layer(x)
    wait()
    start, done = clock(), 0
    while clock() - start < PEAK_SECONDS:
        for _ in range(10):
            layer(x)
        wait()
        done += 10
    return 2 * 9 * channels**2 * size**2 * len(x) * done / (clock() - start) / 1e9


def shares(events: Sequence[FunctionEvent], on_cuda: bool) -> dict[str, float]:
    """Of the time that operators themselves took, largest first."""
    seconds: Counter[str] = Counter()
    for event in events:
        seconds[kind(event)] += event.self_device_time_total if on_cuda else event.self_cpu_time_total
    return {name: value / seconds.total() for name, value in seconds.most_common()}


def kind(event: FunctionEvent) -> str:
    names = [above.name for above in lineage(event)]
    if any(name.startswith("Optimizer.step") for name in names):
        return "Muon's matrix products" if "mm" in names[0] else "optimisers, rest"
    return next((OPERATORS[part] for part in OPERATORS for name in names if part in name), "rest")


def lineage(event: FunctionEvent | None) -> Iterator[FunctionEvent]:
    """An operator, the one that called it, and so on."""
    while event is not None:
        yield event
        event = event.cpu_parent


def peak_memory(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else peak_memory_mib()


def start_up() -> dict[str, float | None]:
    """Seconds of each stage without its work, and of a `dvc repro` with nothing to do (None where there is something)."""
    stages = YAML(typ="safe", pure=True).load(Path("dvc.yaml"))["stages"]
    commands = {name: stage["cmd"].partition("python ")[2].split() for name, stage in stages.items()}
    environment = os.environ | {"PYTHONPATH": "src"}

    def seconds(command: list[str]) -> float:
        start = time.perf_counter()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return time.perf_counter() - start

    starts = {name: [sys.executable, "-c", START, *command] for name, command in commands.items()}
    result: dict[str, float | None] = {name: seconds(command) for name, command in starts.items()}
    environment.pop("DVC_ROOT")
    dvc = [sys.executable, "-m", "dvc", "repro"]
    said = subprocess.run([*dvc, "--dry"], env=environment, capture_output=True, text=True).stdout
    result["dvc repro"] = seconds(dvc) if "up to date" in said else None
    return result


def machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    about = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", about.read_text()) if about.exists() else None
    name = found[1] if found else platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def markdown(result: Mapping[str, Any]) -> str:
    """The tables of docs/recipes.md."""
    peaks = ", ".join(f"{value:.0f} GFLOP/s in {name}" for name, value in result["peak_gflops"].items())
    lines = [
        f"{result['date']}, {result['machine']}, threads: {result['threads']}, recipe {result['recipe']}, "
        f"{result['precision']}. Peak of a convolution: {peaks}. "
        f"Forward and backward: {result['gflop_per_image']:.3f} GFLOP an image.",
        "",
        "| batch | images/s | GFLOP/s | of the peak | peak memory, MiB | first three steps, s |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['batch_size']} | {row['images_per_second']:.0f} | {row['gflops']:.0f} | {row['share_of_peak']:.0%} "
        f"| {row['peak_memory_mib']:,.0f} | {row['first_three_steps_seconds']:.0f} |"
        for row in result["training"]
    ]
    lines += ["", "| operator | share of the time |", "|---|---|"]
    lines += [f"| {name} | {share:.1%} |" for name, share in result["profile"].items()]
    lines += ["", "| beside the training | share of its time |", "|---|---|"]
    lines += [f"| {name} | {share:.2%} |" for name, share in result["beside_training"].items()]
    lines += ["", "| start-up | seconds |", "|---|---|"]
    lines += [
        f"| `{name}` | {'it has something to do' if value is None else f'{value:.1f}'} |"
        for name, value in result["start_up_seconds"].items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"throughput: {error}")
