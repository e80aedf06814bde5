"""Training speed of the U-Net relative to the machine's peak convolution speed, and a profile.

    python -m benchmarks.throughput                    # five minutes, on an idle machine
    python -m benchmarks.throughput --recipe course

Peak and training are measured in turn and compared round by round. Times are wall-clock times or, with one thread on a
CPU, CPU times, which other processes disturb less. Images are random. Writes benchmarks/results/throughput/ and
docs/results/throughput.md.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.core.clock import Clock
from benchmarks.core.experiments import params_with
from benchmarks.core.options import count, parser
from benchmarks.core.rates import machine
from benchmarks.core.report import insert, table
from ddpm import recipes
from ddpm.conditioning.guidance import given
from ddpm.data.dataset import ImageDataset
from ddpm.run.compute import Compute, set_up
from ddpm.run.files import write_json
from ddpm.run.stage import mistakes_in_one_line, peak_memory
from ddpm.training.loop import Step, start_training, training_steps
from ddpm.training.steps import total_steps
from ddpm.training.train_model import build_model, examples

REPORT, DOC = Path("benchmarks/results/throughput/throughput.json"), Path("docs/results/throughput.md")
N_IMAGES = 4096
CONVOLUTIONS = ((64, 14), (128, 14), (256, 14), (128, 28), (256, 28))  # 3x3: channels, size of the feature maps
PEAK_SECONDS = 0.3  # for each of them, in each round
OPERATORS = {  # in a profile: the first one contained in the name
    "convolution_backward": "convolution backward",
    "convolution": "convolution forward",
    "group_norm": "GroupNorm",
    "silu": "SiLU",
    "scaled_dot_product": "attention",
    "mm": "linear layers",
}
COLUMNS = {  # of the table, and how their values are formatted
    "batch": "{}",
    "images/s": "{:.0f}",
    "GFLOP/s": "{:.0f}",
    "of peak": "{:.0%}",
    "peak memory, MiB": "{:,.0f}",
    "first two steps, s": "{:.0f}",
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--recipe", default="", help="one of recipes/; default: params.yaml as it is")
    options.add_argument("--batch-sizes", type=count, nargs="+", default=[64, 128])
    options.add_argument("--rounds", type=count, default=5)
    options.add_argument("--steps", type=count, default=10, help="training steps in each round")
    asked = options.parse_args()
    params = params_with(recipes.load(asked.recipe) if asked.recipe else {})
    compute = set_up(params.device, params.precision)
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(compute.device),
        "precision": compute.precision,
        "recipe": asked.recipe or "default",
        **measured(params, compute, asked.batch_sizes, asked.rounds, asked.steps),
    }
    write_json(REPORT, result)
    insert(DOC, markdown(result))
    print(markdown(result))


def measured(params: Any, compute: Compute, batch_sizes: list[int], rounds: int, n_steps: int) -> dict[str, Any]:
    """Peak, throughput and profile of stage train_unet."""
    training, on_cpu = params.train_unet, compute.device.type == "cpu"
    now = time.process_time if on_cpu and torch.get_num_threads() == 1 else time.perf_counter
    labels = torch.arange(N_IMAGES).remainder(len(params.data.source.class_names)).byte()
    images = torch.randint(256, (N_IMAGES, *params.data.source.img_shape), dtype=torch.uint8)
    data = ImageDataset(images, labels, params.data.source.class_names)
    model = build_model(training, data, 0)
    learnt = examples(model, data)

    clocks: dict[int, Clock[Step]] = {}
    memory = {}
    for size in sorted({*batch_sizes, training.batch_size}):
        chosen = training.model_copy(update={"batch_size": size, "epochs": 1000.0})
        clocks[size] = Clock(training_steps(start_training(model, chosen, compute), chosen, learnt, 0, compute), now)
        take(clocks[size], 2)
        memory[size] = peak_memory()["peak_memory_mib"] if on_cpu else torch.cuda.max_memory_allocated() / 2**20
    peaks, seconds = [], {size: list[float]() for size in clocks}
    for _ in range(rounds):
        peaks.append(peak(compute, now))
        for size, clock in clocks.items():
            take(clock, n_steps)
            seconds[size].append(median(clock.laps[-n_steps:]))
    xt, num_steps = torch.zeros(1, *data.img_shape, device=compute.device), torch.ones(1, device=compute.device)
    gflop = flops(given(model, learnt.cond, slice(1)), xt, num_steps) / 1e9
    rows = []
    for size, each in seconds.items():
        rates = [size * gflop / step for step in each]
        share = median(rate / fastest for rate, fastest in zip(rates, peaks, strict=True))
        values = size, median(rates) / gflop, median(rates), share, memory[size], sum(clocks[size].laps[:2])
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    with profile() as events:
        take(clocks[training.batch_size], n_steps)
    return {
        "gflop_per_image": gflop,
        "peak_gflops": median(peaks),
        "training": rows,
        "minutes": total_steps(params.data.train_size, training) * median(seconds[training.batch_size]) / 60,
        "profile": shares(events.events(), on_cpu),
    }


def take(clock: Clock[Step], n_steps: int) -> None:
    """Take training steps."""
    for _ in range(n_steps):
        next(clock)


def flops(module: nn.Module, *inputs: Tensor) -> int:
    """FLOPs of a forward and a backward pass. A multiply-add counts as two."""
    with FlopCounterMode(display=False) as counter:
        module(*inputs).sum().backward()
    return counter.get_total_flops()


@torch.inference_mode()
def peak(compute: Compute, now: Callable[[], float]) -> float:
    """GFLOP/s of the fastest of CONVOLUTIONS: forward, 16 images, channels_last."""
    device, dtype = compute.device, torch.bfloat16 if compute.precision == "bf16" else torch.float32
    repeats, rates = 100 if device.type == "cuda" else 1, []
    for channels, size in CONVOLUTIONS:
        layer = nn.Conv2d(channels, channels, 3, padding=1, device=device, dtype=dtype)
        layer.to(memory_format=torch.channels_last)
        x = torch.randn(16, channels, size, size).to(device, dtype, memory_format=torch.channels_last)
        done, start = -1, now()
        while done < 1 or now() - start < PEAK_SECONDS:
            for _ in range(repeats):
                layer(x)
            if device.type == "cuda":
                torch.cuda.synchronize()
            done += 1
            start = start if done else now()  # the first run is a warm-up
        rates.append(18 * channels**2 * size**2 * len(x) * repeats * done / (now() - start) / 1e9)
    return max(rates)


def shares(events: Iterable[FunctionEvent], on_cpu: bool) -> dict[str, float]:
    """Share of self time by kind of operator, largest first."""
    seconds: Counter[str] = Counter()
    for event in events:
        seconds[kind(event)] += event.self_cpu_time_total if on_cpu else event.self_device_time_total
    return {name: value / seconds.total() for name, value in seconds.most_common()}


def kind(event: FunctionEvent | None) -> str:
    """The kind of an operator, from its name and those of its callers."""
    names = []
    while event is not None:
        names.append(event.name)
        event = event.cpu_parent
    if any(name.startswith("Optimizer.step") for name in names):
        return "Muon's matrix products" if "mm" in names[0] else "other optimiser time"
    return next((OPERATORS[part] for part in OPERATORS for name in names if part in name), "other")


def markdown(result: Mapping[str, Any]) -> str:
    """The measurements as tables."""
    about = (
        f"{result['date']}, {result['machine']}, {result['precision']}, recipe: {result['recipe']}.\n"
        f"Peak convolution speed: {result['peak_gflops']:.0f} GFLOP/s. Forward and backward pass: "
        f"{result['gflop_per_image']:.3f} GFLOP per image. Training takes {result['minutes']:.1f} minutes."
    )
    rows = ([form.format(row[name]) for name, form in COLUMNS.items()] for row in result["training"])
    operators = ((name, f"{share:.1%}") for name, share in sorted(result["profile"].items(), key=lambda item: -item[1]))
    return "\n\n".join((about, table(COLUMNS, rows), table(("operator", "share of time"), operators)))


if __name__ == "__main__":
    with mistakes_in_one_line("throughput"):
        main()
