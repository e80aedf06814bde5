"""What it costs to share the work among processes, and whether the results are bit-for-bit identical.

    python -m benchmarks.processes     # eight minutes, on an idle machine

Trains the U-Net for a few steps and samples from it, using torchrun, with several numbers of processes and
micro-batches. The baseline is one process with two threads and an undivided batch. All are measured in turn, round by
round. Images are random. Writes benchmarks/results/processes/ and docs/results/processes.md.
"""

import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.core.clock import Clock
from benchmarks.core.experiments import params_with
from benchmarks.core.options import count, parser
from benchmarks.core.rates import machine
from benchmarks.core.report import insert, table
from ddpm.data.dataset import ImageDataset
from ddpm.diffusion.model import DiffusionModel
from ddpm.errors import UserError
from ddpm.run.compute import Compute, set_up
from ddpm.run.files import tensors_sha256, write_json
from ddpm.run.processes import rank, shared, together
from ddpm.run.resume.file import read_state
from ddpm.run.seeding import generator
from ddpm.run.stage import mistakes_in_one_line
from ddpm.sampling.chain import sample_steps
from ddpm.training.loop import Examples, start_training, training_steps
from ddpm.training.train_model import build_model

REPORT, DOC = Path("benchmarks/results/processes/processes.json"), Path("docs/results/processes.md")
N_BATCHES, N_SAMPLER_STEPS, BATCH = 4, 10, 64  # for sampling
HASHED = "The hash covers the training state (weights, their EMA, optimiser), all losses, and a set of samples."
COLUMNS = (
    "processes",
    "threads each",
    "micro-batches",
    "ms per step",
    "relative step time",
    "relative samples/s",
    "SHA-256",
)


class Case(NamedTuple):
    """How the work is shared."""

    processes: int
    threads: int
    micro_batches: int


THREADS = Case(1, 2, 1)  # the baseline
CASES = THREADS, *(Case(n, 1, parts) for parts in (2, 4, 8) for n in (1, 2)), *(Case(n, 1, 8) for n in (3, 4, 8))


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=count, default=3)
    options.add_argument("--steps", type=count, default=10, help="training steps in each round")
    options.add_argument("--measure", type=int, nargs=2, help="threads, micro-batches; internal, under torchrun")
    asked = options.parse_args()
    if asked.measure:
        threads, micro_batches = asked.measure
        measure(threads, micro_batches, asked.steps)
        return
    found: dict[Case, list[dict[str, Any]]] = {case: [] for case in CASES}
    for _ in range(asked.rounds):
        for case in CASES:
            found[case].append(run(case, asked.steps))
    compute = set_up("auto", "auto")
    about = f"{datetime.now(UTC).date().isoformat()}, {machine(compute.device)}, {compute.precision}."
    rows = [row(case, runs, found[THREADS]) for case, runs in found.items()]
    write_json(REPORT, {"about": about, "rows": [dict(zip(COLUMNS, each, strict=True)) for each in rows]})
    insert(DOC, f"{about} {HASHED}\n\n{table(COLUMNS, rows)}")


def run(case: Case, n_steps: int) -> dict[str, Any]:
    """Measure a case in its own processes."""
    own = ["--measure", str(case.threads), str(case.micro_batches), "--steps", str(n_steps)]
    command = ["--standalone", "--nproc-per-node", str(case.processes), "-m", "benchmarks.processes", *own]
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", *command], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{case}: {done.stderr.strip().splitlines()[-1]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure(threads: int, micro_batches: int, n_steps: int) -> None:
    """Train and sample in this process and its peers. The first one prints the timings."""
    params = params_with({"train_unet": {"micro_batches": micro_batches}})
    compute, training = set_up(params.device, params.precision), params.train_unet
    torch.set_num_threads(threads)
    images = torch.randint(256, (4096, *params.data.source.img_shape), dtype=torch.uint8, generator=generator(0, "x"))
    model = build_model(training, ImageDataset(images), 0)
    state = start_training(model, training, compute)
    with together(1, 1024):
        clock = Clock(training_steps(state, training, Examples(images), 0, compute))
        losses = [next(clock).loss for _ in range(2 + n_steps)]
        model.eval().requires_grad_(False)
        timesteps = torch.linspace(0, training.max_steps, N_SAMPLER_STEPS + 1).long()
        began = time.perf_counter()
        drawn = shared([partial(draw, model, timesteps, batch, compute) for batch in range(N_BATCHES)])
        seconds = time.perf_counter() - began
    if not rank():
        with TemporaryDirectory() as folder:
            state.save(Path(folder, "state"), {"losses": losses})
            numbers, tensors = read_state(Path(folder, "state"))
        digest = tensors_sha256(json.dumps(numbers), tensors | {f"samples/{i}": each for i, each in enumerate(drawn)})
        rate = N_BATCHES * BATCH / seconds
        print(json.dumps({"step": median(clock.laps[2:]), "images": rate, "digest": digest[:12]}))


@torch.no_grad()
def draw(model: DiffusionModel, timesteps: Tensor, batch: int, compute: Compute) -> Tensor:
    """A batch of samples."""
    streams = [generator(batch, "noise", i) for i in range(BATCH)]
    return deque(sample_steps(model, streams, timesteps, "ddim", compute=compute), maxlen=1).pop()


def row(case: Case, runs: Sequence[Mapping[str, Any]], threads: Sequence[Mapping[str, Any]]) -> list[object]:
    """A row of the table. Ratios are between runs of the same round."""
    step = median(each["step"] / other["step"] for each, other in zip(runs, threads, strict=True))
    images = median(each["images"] / other["images"] for each, other in zip(runs, threads, strict=True))
    digests = ", ".join(sorted({each["digest"] for each in runs}))
    milliseconds = 1000 * median(each["step"] for each in runs)
    return [*case, f"{milliseconds:.0f}", f"{step:.2f}", f"{images:.2f}", f"`{digests}`"]


if __name__ == "__main__":
    with mistakes_in_one_line("processes"):
        main()
