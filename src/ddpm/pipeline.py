"""What every stage does around its own work: read its params, open its tracking run, report mistakes in one line."""

import logging
import resource
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ddpm import tracking
from ddpm.config import Params, load_params, select
from ddpm.errors import UserError

OUT_OF_MEMORY = "can't allocate memory", "out of memory"  # as torch says it of the CPU and of CUDA


@dataclass(frozen=True)
class Stage:
    """What a stage works with: the params that it declares in dvc.yaml, and no others, and its tracking run."""

    params: Params
    run: tracking.Run


def run_stage(name: str, main: Callable[[Stage], None], reads: Iterable[str]) -> None:
    """Run `main` as the stage `name` of dvc.yaml and exit: 0 when done, 2 for the user's mistake, 130 for Ctrl-C.

    reads: the params that dvc.yaml declares for the stage, such as "seed" or "sample.tiny".
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        params = select(load_params(), tuple(reads))
        with tracking.stage_run(name, params.model_dump()) as run:
            main(Stage(params, run))
            run.log_metrics({"peak_memory_mib": peak_memory_mib()}, 0)
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
    per_mib = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / per_mib
