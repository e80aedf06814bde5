"""The cost of MLflow tracking in training, with a working and with a failing store.

    python -m benchmarks.tracking_cost           # 20 minutes, on an idle machine

Runs a short train_unet with each kind of store in turn and without tracking. The weights of all runs must have the same
hash. Writes docs/results/tracking_cost.md.
"""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.core.options import count, parser, positive
from benchmarks.core.report import insert, table
from benchmarks.core.stages import altered, environment
from ddpm import recipes
from ddpm.errors import UserError
from ddpm.run.files import md5
from ddpm.run.params import PARAMS
from ddpm.run.stage import mistakes_in_one_line
from ddpm.run.yaml import dump_yaml, load_yaml

DOC = Path("docs/results/tracking_cost.md")
UNTRACKED, SQLITE = "no tracking", "SQLite, the default"
ABSENT, SILENT = "server unreachable", "server accepts connections but never answers"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=count, default=2)
    options.add_argument("--epochs", type=positive, default=0.08, help="epochs of train_unet")
    asked = options.parse_args()
    seconds: dict[str, list[float]] = {case: [] for case in (UNTRACKED, SQLITE, ABSENT, SILENT)}
    hashes = set()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_project(folder, asked.epochs)
        for _ in range(asked.rounds):
            for case, taken in seconds.items():
                with store(case) as variables:
                    command = altered("stages/train.py", "train_unet", f"tracked={case != UNTRACKED}")
                    began = time.monotonic()
                    subprocess.run(command, cwd=folder, env=environment(**variables), check=True)
                    taken.append(time.monotonic() - began)
                hashes.add(md5(folder / "models/unet.safetensors"))
                print(f"{case}: {taken[-1]:.1f} s", flush=True)
    if len(hashes) > 1:
        raise UserError(f"the weights differ: {sorted(hashes)}")
    insert(DOC, markdown(seconds))


def copy_project(folder: Path, epochs: float) -> None:
    """Set up the project in another folder, with short training."""
    for name in ("src", "stages", "data", "plan", "dvc.yaml"):
        (folder / name).symlink_to(Path(name).absolute())
    (folder / ".dvc").mkdir()
    short = {"train_unet": {"epochs": epochs, "n_eval_per_step": 1}}
    (folder / PARAMS).write_text(dump_yaml(recipes.merged(load_yaml(PARAMS), short)))


@contextmanager
def store(case: str) -> Iterator[dict[str, str]]:
    """The environment variables that select a case's store, while it exists."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        address = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{server.getsockname()[1]}"}
        if case == ABSENT:
            server.close()
        yield address if case in (ABSENT, SILENT) else {}


def markdown(seconds: Mapping[str, list[float]]) -> str:
    """A line for each case: seconds in each round, and the median ratio to the untracked run of the round."""
    rows = []
    for case, taken in seconds.items():
        ratio = median(own / without for own, without in zip(taken, seconds[UNTRACKED], strict=True))
        rows.append((case, ", ".join(f"{value:.1f}" for value in taken), f"{ratio:.3f}"))
    return table(("MLflow", "seconds", "ratio"), rows)


if __name__ == "__main__":
    with mistakes_in_one_line("tracking_cost"):
        main()
