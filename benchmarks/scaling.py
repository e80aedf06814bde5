"""How training and sampling scale: measured for 1 and 2 processes, computed for many GPUs.

    python -m benchmarks.scaling     # two minutes, on an idle machine

A step takes ceil(K / n) micro-batches, per-process work, and an exchange of gradients. Their times are measured. The
formula is then compared with a step of two processes, and evaluated with assumed figures for GPUs. Images are random.
Writes benchmarks/results/scaling/, with a figure, and docs/results/scaling.md.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from math import ceil
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from benchmarks.core.clock import Clock
from benchmarks.core.cluster import Links, Work, all_gather, drawing_seconds, halving_doubling, step_seconds
from benchmarks.core.experiments import params_with
from benchmarks.core.options import count, parser
from benchmarks.core.rates import machine
from benchmarks.core.report import insert, table
from benchmarks.processes import BATCH, N_BATCHES, draw
from benchmarks.throughput import flops, take
from ddpm import recipes
from ddpm.conditioning.guidance import given
from ddpm.data.dataset import ImageDataset
from ddpm.errors import UserError
from ddpm.figures.canvas import FAINT, colors, curve_panels, legend_above, plain_log_scale, save, styled
from ddpm.run.compute import set_up
from ddpm.run.files import write_json
from ddpm.run.processes import gathered_tensors, rank, size, together
from ddpm.run.seeding import generator
from ddpm.run.stage import mistakes_in_one_line
from ddpm.training.loop import Examples, start_training, training_steps
from ddpm.training.train_model import build_model

REPORT, DOC = Path("benchmarks/results/scaling/scaling.json"), Path("docs/results/scaling.md")
FIGURE = REPORT.with_suffix(".png")
MICRO_BATCH = 64  # images
RECIPE, GPU_MICRO_BATCH, GPU_MICRO_BATCHES, GPUS = "paper", 8, 512, (1, 8, 64, 512)
HERE = "this machine"
N_DRAWN, N_EVALUATIONS, START = 65_536, 250, 10.0  # samples, network evaluations for each, seconds
PEAK, SHARE, MEMORY, TOUCHED = 312e12, 0.2, 1.5e12, 44  # of a GPU: FLOP/s, share achieved, bytes/s, bytes per weight
Measured = dict[str, float]  # seconds, and bytes of the gradient
Curves = dict[str, dict[int, float]]  # rates by name and number of processes
INSIDE, OUTSIDE = ("NVLink", Links(5e-6, 300e9)), ("InfiniBand", Links(10e-6, 25e9))  # for up to 8 GPUs, and for more
ASSUMED = (
    ("network", f"that of recipe {RECIPE}"),
    ("batch", f"{GPU_MICRO_BATCHES * GPU_MICRO_BATCH:,} images in {GPU_MICRO_BATCHES} micro-batches"),
    ("a GPU", f"{PEAK / 1e12:.0f} TFLOP/s in bf16 (A100), of which {SHARE:.0%} is achieved"),
    ("per-process work", f"{TOUCHED} bytes per weight, at {MEMORY / 1e12} TB/s: Adam and EMA in float32"),
    ("samples", f"{N_DRAWN:,} with {N_EVALUATIONS} evaluations each, in batches of {BATCH}; {START:.0f} s to start"),
    *((name, f"{at.latency * 1e6:.0f} µs, {at.bandwidth / 1e9:.0f} GB/s") for name, at in (INSIDE, OUTSIDE)),
)
EXCHANGES = {"all-gather": all_gather, "halving and doubling": halving_doubling}
NOTE = "Both axes are logarithmic. Speeds on this machine are measured, those on GPUs computed."


class Result(NamedTuple):
    """Tables, and the curves of the figure."""

    tables: str
    steps: Curves
    samples: Curves


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--steps", type=count, default=20, help="training steps for each number of processes")
    options.add_argument("--measure", action="store_true", help="internal, under torchrun")
    asked = options.parse_args()
    if asked.measure:
        measure(asked.steps)
        return
    one, two = (run(n, asked.steps) for n in (1, 2))
    compute = set_up("auto", "auto")
    about = f"{datetime.now(UTC).date().isoformat()}, {machine(compute.device)}, {compute.precision}."
    write_json(REPORT, {"about": about, "1": one, "2": two})
    own, far = here(one, two), gpus()
    save(drawn({"training steps/s": own.steps | far.steps, "samples/s": own.samples | far.samples}), FIGURE)
    picture = f"![Speed by number of processes](../../{FIGURE})"
    insert(DOC, "\n\n".join((about, own.tables, table(("assumed", "value"), ASSUMED), far.tables, picture)))


def run(n: int, n_steps: int) -> Measured:
    """Measure in n processes with one thread each."""
    own = "-m", "benchmarks.scaling", "--measure", "--steps", str(n_steps)
    command = sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n), *own
    began = time.time()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{n} processes: {done.stderr.strip().splitlines()[-1]}")
    found: Measured = json.loads(done.stdout.splitlines()[-1])
    return found | {"start": found["joined"] - began}


def measure(n_steps: int) -> None:
    """Train, sample and exchange in this process and its peers. The first one prints the timings."""
    params = params_with({})
    compute = set_up(params.device, params.precision)
    torch.set_num_threads(1)
    images = torch.randint(256, (4096, *params.data.source.img_shape), dtype=torch.uint8, generator=generator(0, "x"))
    with together(1, 1024):
        found: Measured = {"joined": time.time()}
        for parts in range(size(), 3):  # 1 and 2 micro-batches for one process, 2 for two
            changes = {"batch_size": parts * MICRO_BATCH, "micro_batches": parts, "epochs": 1000.0}
            training = params.train_unet.model_copy(update=changes)
            model = build_model(training, ImageDataset(images), 0)
            state = start_training(model, training, compute)
            clock = Clock(training_steps(state, training, Examples(images), 0, compute))
            take(clock, 2 + n_steps)
            found[f"step_{parts}"] = median(clock.laps[2:])
        found["gradient"] = 4.0 * sum(weight.numel() for weight in model.parameters())
        for name, numbers in ("message", 1), ("gather", int(found["gradient"] / 4)):
            sent = torch.zeros(numbers)
            found[name] = median(seconds(partial(gathered_tensors, sent)) for _ in range(n_steps))
        model.eval().requires_grad_(False)
        timesteps = torch.linspace(0, params.train_unet.max_steps, 11).long()
        own = range(N_BATCHES)[rank() :: size()]
        found["draw"] = median(seconds(partial(draw, model, timesteps, batch, compute)) for batch in own)
    if not rank():
        print(json.dumps(found))


def seconds(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def here(one: Measured, two: Measured) -> Result:
    """One and two processes on this machine, as measured and as predicted."""
    micro_batch, later = one["step_2"] - one["step_1"], round(two["start"] - one["start"], 1)
    work = Work(2, micro_batch, one["step_1"] - micro_batch, two["gradient"])
    links = Links(two["message"], two["gradient"] / max(two["gather"] - two["message"], 1e-9))
    measured = (
        ("a micro-batch", f"{1e3 * micro_batch:.0f} ms, {MICRO_BATCH} images"),
        ("per-process work", f"{1e3 * work.rest:.0f} ms"),
        ("gradient", f"{work.gradient / 1e6:.1f} MB"),
        ("gloo on this machine", f"{1e6 * links.latency:.0f} µs, {links.bandwidth / 1e9:.2f} GB/s"),
        ("start-up with two processes", f"{f'{later} s' if later > 0 else 'no'} more than with one"),
    )
    steps = {1: 1 / one["step_2"], 2: 1 / two["step_2"]}
    samples = {n: N_BATCHES * BATCH / drawing_seconds(n, N_BATCHES, one["draw"], 0) for n in (1, 2)}
    two_sampled = N_BATCHES * BATCH / drawing_seconds(2, N_BATCHES, two["draw"], 0)
    rows = (
        (1, f"{steps[1]:.2f}", "-", f"{samples[1]:.1f}", "-"),
        (2, f"{steps[2]:.2f}", f"{1 / step_seconds(2, work, links):.2f}", f"{two_sampled:.1f}", f"{samples[2]:.1f}"),
    )
    columns = "processes", "steps/s", "predicted", "samples/s", "predicted"
    tables = f"{table(('measured', 'value'), measured)}\n\n{table(columns, rows)}"
    return Result(tables, {HERE: steps}, {HERE: {1: samples[1], 2: two_sampled}})


def gpus() -> Result:
    """What the formula predicts for GPUs with the assumed figures."""
    training = params_with(recipes.load(RECIPE)).train_unet
    shape = params_with({}).data.source.img_shape
    model = build_model(training, ImageDataset(torch.zeros(1, *shape, dtype=torch.uint8)), 0)
    flop = flops(given(model, None), torch.zeros(1, *shape), torch.ones(1))
    n_weights = sum(weight.numel() for weight in model.parameters())
    each = GPU_MICRO_BATCH * flop / (PEAK * SHARE)
    work = Work(GPU_MICRO_BATCHES, each, TOUCHED * n_weights / MEMORY, 4.0 * n_weights)
    batch = BATCH * N_EVALUATIONS * flop / 3 / (PEAK * SHARE)  # a forward pass is a third of forward and backward
    networks = {n: INSIDE if n <= 8 else OUTSIDE for n in GPUS}
    steps = {
        f"GPUs, {name}": {n: 1 / step_seconds(n, work, links, exchange) for n, (_, links) in networks.items()}
        for name, exchange in EXCHANGES.items()
    }
    samples = {n: N_DRAWN / drawing_seconds(n, ceil(N_DRAWN / BATCH), batch, START) for n in GPUS}
    rows = []
    for n, (name, _) in networks.items():
        cells = [cell for curve in steps.values() for cell in (f"{curve[n]:.2f}", f"{curve[n] / curve[1] / n:.0%}")]
        rows.append((n, name if n > 1 else "-", *cells, f"{samples[n]:.0f}"))
    shown = (column for name in EXCHANGES for column in (f"steps/s, {name}", "of linear"))
    columns = "GPUs", "network", *shown, "samples/s"
    note = f"{n_weights / 1e6:.1f} million weights, {flop / 1e9:.1f} GFLOP per image, forward and backward."
    return Result(f"{note}\n\n{table(columns, rows)}", steps, {"GPUs": samples})


@styled
def drawn(panels: Mapping[str, Curves]) -> Figure:
    """Rates by number of processes, each with linear scaling from one process."""
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    color = dict(zip(names, colors(len(names)), strict=True))
    result, axes = curve_panels(
        "Speed by number of processes", NOTE, "processes", "per second", list(panels), False, len(names) + 1
    )
    for each, curves in zip(axes, panels.values(), strict=True):
        for name, curve in curves.items():
            each.plot(list(curve), [n * curve[1] for n in curve], color=FAINT, linestyle="--", label="linear")
            each.plot(list(curve), list(curve.values()), color=color[name], marker="o", markersize=4, label=name)
        each.set_xscale("log")
        each.set_xticks([1, 2, *GPUS[1:]])
        each.minorticks_off()
        each.xaxis.set_major_formatter(ScalarFormatter())
        plain_log_scale(each)
    legend_above(result, axes)
    return result


if __name__ == "__main__":
    with mistakes_in_one_line("scaling"):
        main()
