"""A stage of the pipeline: what it reads and writes, and what is done around its own work.

A script in `stages/` declares its stages in a dict `STAGES` and ends with `run(STAGES)`. `make deps` writes dvc.yaml
from these declarations. Around a stage's work, params are read, the device is set up, the tracking run is opened, inputs
and outputs are logged, an interrupted run goes on where it was, and a user's mistake is one line without a traceback.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm.errors import UserError
from ddpm.run import compute
from ddpm.run.params import load_params, section
from ddpm.run.plan import plan_path
from ddpm.run.resume.context import Resume, determinants
from ddpm.run.seeding import derive_seed
from ddpm.run.tracking.record import Run, stage_run

OUT_OF_MEMORY = "can't allocate memory", "out of memory"  # as torch says it of the CPU and of CUDA
COMPUTE = "seed", "device", "precision", "threads"


@dataclass(frozen=True)
class Stage:
    """A stage as dvc.yaml has it.

    Attributes:
        main: The stage's own work.
        section: The class of its section in params.yaml, or None if it has none.
        key: The section's key, if that is not the stage's name.
        general: The general params that it reads: `COMPUTE`, ("seed",) or ().
        deps: The files that it reads, code aside: which code decides its result is found by `ddpm.run.plan`.
        outs: Outputs that DVC caches.
        reports: Outputs for people, kept in git instead of DVC's cache.
        metrics: JSON files that `dvc metrics show` shows.
        plots: CSV files and pictures that `dvc plots show` shows.
        resumes: Whether an interrupted run goes on where it was.
        tracked: Whether it is a run in MLflow.
    """

    main: Callable[["StageRun"], None]
    section: type[Any] | None = None
    key: str = ""
    general: Sequence[str] = COMPUTE
    deps: Sequence[str] = ()
    outs: Sequence[str] = ()
    reports: Sequence[str] = ()
    metrics: Sequence[str] = ()
    plots: Sequence[str] = ()
    resumes: bool = False
    tracked: bool = True

    @property
    def outputs(self) -> list[Path]:
        """All files and folders that it writes."""
        return [Path(path) for path in (*self.outs, *self.reports, *self.metrics, *self.plots)]


@dataclass(frozen=True)
class StageRun:
    """A stage at work.

    Attributes:
        name: The stage's name in dvc.yaml.
        params: Its own section of params.yaml.
        root_seed: The project's `seed`.
        compute: The device and its precision.
        log: The tracking run.
        resume: Where the state of a run is kept that may be interrupted; only for a stage that `resumes`.
    """

    name: str
    params: Any
    root_seed: int
    compute: compute.Compute
    log: Run
    resume: Resume | None = None

    @property
    def seed(self) -> int:
        """The seed of all randomness in this stage; its streams are named for their purpose alone."""
        return derive_seed(self.root_seed, self.name)


def run(stages: Mapping[str, Stage]) -> None:
    """Run the stage that the command line names, or the only one.

    Exits with 0 when done, 2 after a user's mistake, 130 after Ctrl-C.
    """
    name = next(iter(stages)) if len(stages) == 1 else " ".join(sys.argv[1:])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with mistakes_in_one_line(name):
        if name not in stages:
            raise UserError(f"no such stage in {sys.argv[0]}; it has {', '.join(stages)}")
        run_stage(name, stages[name])


def run_stage(name: str, stage: Stage) -> None:
    """Do the work of one stage, in the working folder; what goes wrong is raised."""
    key = stage.key or name
    params = load_params({} if stage.section is None else {key: stage.section})
    own = None if stage.section is None else section(params, key)
    general = {field: getattr(params, field) for field in stage.general}
    values = {**general, **({} if own is None else {key: own.model_dump()})}
    with ExitStack() as around:
        log = around.enter_context(stage_run(name, values)) if stage.tracked else Run()
        device = compute.set_up(params.device, params.precision, params.threads) if "device" in general else None
        for path in stage.deps:
            log.log_input(Path(path), name)
        resume = None
        if stage.resumes and device:
            about = determinants(values, [*stage.deps, str(plan_path(name))], device)
            resume = around.enter_context(Resume(name, about, params.checkpoint_seconds))
        stage.main(StageRun(name, own, params.seed, device or compute.Compute(), log, resume))
        for path in stage.outputs:
            log.log_artifact(path)
        log.log_metrics({"peak_memory_mib": peak_memory_mib()}, 0)


@contextmanager
def mistakes_in_one_line(name: str) -> Iterator[None]:
    """End the process with a line on stderr, instead of a traceback, for what a user can mend or has asked for."""
    try:
        yield
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"{name}: {place}{error.strerror or error}; nothing half-written is left", file=sys.stderr)
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        print(f"{name}: out of memory; lower the batch size, the model or n_samples in params.yaml", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{name}: stopped", file=sys.stderr)
        sys.exit(130)


def peak_memory_mib() -> float:
    """The most memory that this process has held so far."""
    import resource  # Unix only; the library imports everywhere

    per_mib = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / per_mib
