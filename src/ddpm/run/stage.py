"""A stage of the pipeline: its inputs and outputs, and what is done around its own work.

A script in `stages/` declares its stages in a dict `STAGES` and ends with `run(STAGES)`. `make deps` writes dvc.yaml
from these declarations. `run` reads params, sets up the device, logs inputs and outputs to MLflow, resumes an
interrupted run, and reports user errors in one line.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ddpm.errors import UserError
from ddpm.run.compute import Compute, set_up
from ddpm.run.experiment import is_in_workspace, way_back
from ddpm.run.params import load_params, section
from ddpm.run.plan import current_digests
from ddpm.run.processes import cores, rank, size, together
from ddpm.run.resume.context import Resume, determinants
from ddpm.run.resume.follower import Follower, check_agreement
from ddpm.run.root import from_root, with_door
from ddpm.run.seeding import derive_seed
from ddpm.run.tracking.record import Run, stage_run

OUT_OF_MEMORY = "can't allocate memory", "out of memory"  # in torch's errors for the CPU and for CUDA
MEMORY_HINT = "the batch size, the model or n_samples in params.yaml"  # what to lower if memory runs out
COMPUTE = "seed", "device", "precision"


@dataclass(frozen=True)
class Stage:
    """The declaration of a stage.

    Attributes:
        main: Does the stage's own work.
        section: The class of its section in params.yaml, or None if it has none.
        key: The section's key, or "" for the stage's name.
        general: The general params that it uses: `COMPUTE`, ("seed",) or ().
        deps: Files that it reads. Code is found by `ddpm.run.plan` and not listed.
        entries: Modules of registry entries that it always uses. Those chosen by its params are found automatically.
        outs: Outputs that DVC caches.
        metrics: JSON files for `dvc metrics show` and `dvc exp show`, kept in git.
        plots: Pictures for `dvc plots show`, which DVC caches. The curves are declared at the top of dvc.yaml.
        resumes: Whether an interrupted run can be resumed.
        tracked: Whether it is logged as a run in MLflow.
    """

    main: Callable[["StageRun"], None]
    section: type[BaseModel] | None = None
    key: str = ""
    general: Sequence[str] = COMPUTE
    deps: Sequence[str] = ()
    entries: Sequence[str] = ()
    outs: Sequence[str] = ()
    metrics: Sequence[str] = ()
    plots: Sequence[str] = ()
    resumes: bool = False
    tracked: bool = True

    @property
    def outputs(self) -> list[Path]:
        """All files and folders that it writes."""
        return [Path(path) for path in (*self.outs, *self.metrics, *self.plots)]


@dataclass(frozen=True)
class StageRun:
    """The context passed to `main` of a stage.

    Attributes:
        name: The stage's name in dvc.yaml.
        params: Its section of params.yaml, or None if it has none.
        root_seed: `seed` of params.yaml.
        compute: The device and its precision.
        log: Its run in MLflow.
        resume: Saves its state to disk. None unless it `resumes`.
    """

    name: str
    params: Any
    root_seed: int
    compute: Compute
    log: Run
    resume: Resume | None = None

    @property
    def seed(self) -> int:
        """The seed of all randomness in this stage. Its streams are named after their purpose only."""
        return derive_seed(self.root_seed, self.name)


def run(stages: Mapping[str, Stage]) -> None:
    """Run the stage named on the command line, or the only one of the script.

    Exits with 2 after a user error, with 130 after Ctrl-C.

    Args:
        stages: The stages of the script, by name.
    """
    names = sys.argv[1:] or list(stages)
    name = names[0]
    logging.basicConfig(level=logging.ERROR if rank() else logging.INFO, format="%(message)s")
    speaks = name in stages and stages[name].tracked and not rank()  # `check` undoes the overrides that it rejects
    outside = or_way_back() if speaks else nullcontext()
    with outside, mistakes_in_one_line(name):
        if len(names) > 1 or name not in stages:
            raise UserError(f"the stage is {' '.join(names)}; {sys.argv[0]} has {', '.join(stages)}")
        run_stage(name, stages[name])


def run_stage(name: str, stage: Stage) -> None:
    """Run a stage in the working folder.

    Args:
        name: Its name.
        stage: Its declaration.
    """
    key = stage.key or name
    params = load_params({key: stage.section} if stage.section else {})
    own = section(params, key) if stage.section else None
    values = {field: getattr(params, field) for field in stage.general} | (
        {} if own is None else {key: own.model_dump()}
    )
    with ExitStack() as around:
        log = around.enter_context(stage_run(with_door(name), values)) if stage.tracked and not rank() else Run()
        computes = "device" in stage.general
        compute = set_up(params.device, params.precision) if computes else Compute()
        most = own.most_processes if own and computes else 1
        around.enter_context(together(params.processes or cores(), most))
        inputs = [*stage.deps, *(str(from_root(path)) for path in getattr(own, "files", ()))]
        for path in inputs:
            log.log_input(Path(path))
        resume = None
        if stage.resumes or size() > 1:
            about = determinants(values, inputs, current_digests(name, Path(sys.argv[0])), compute)
            check_agreement(about)
            kept = Follower() if rank() else Resume(with_door(name), about, params.checkpoint_seconds)
            resume = around.enter_context(kept) if stage.resumes else None
        stage.main(StageRun(name, own, params.seed, compute, log, resume))
        for output in stage.outputs:
            log.log_artifact(output)
        log.log_metrics(peak_memory(), 0)


@contextmanager
def mistakes_in_one_line(name: str, memory_hint: str = MEMORY_HINT) -> Iterator[None]:
    """Exit with one line on stderr instead of a traceback on user errors, lack of memory, and Ctrl-C.

    Args:
        name: Prefix of the line.
        memory_hint: What to lower if memory runs out.
    """
    try:
        yield
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"{name}: {place}{error.strerror or error}; no partial output is left", file=sys.stderr)
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        print(f"{name}: out of memory; lower {memory_hint}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{name}: stopped", file=sys.stderr)
        sys.exit(130)


@contextmanager
def or_way_back() -> Iterator[None]:
    """If the block fails or is stopped in an experiment in the workspace, print how to restore the workspace."""
    try:
        yield
    except BaseException:
        if is_in_workspace():
            print(way_back(), file=sys.stderr)
        raise


def peak_memory() -> dict[str, float]:
    """Peak memory of this process in MiB, as a metric, or {} where the system does not report it."""
    try:
        import resource  # on Unix only
    except ImportError:
        return {}
    per_mib = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return {"system/peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / per_mib}
