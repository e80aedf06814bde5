"""What MLflow costs a training, well or ill: seconds of stage train_unet beside those of the same stage untracked.

    python benchmarks/tracking_cost.py

Nothing else should run meanwhile. Each round runs every case once; the weights of all must have the same MD5. Writes
reports/tracking_cost.md.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from threading import Thread

from ruamel.yaml import YAML

from ddpm.run.params import load_params
from ddpm.errors import UserError
from ddpm.run.files import atomic_path, md5

STAGE = "stages/train_unet.py"
# The stage with a run that records nothing.
UNTRACKED = """import contextlib, runpy, sys
from ddpm.run.tracking import record as tracking
tracking.stage_run = lambda *_: contextlib.nullcontext(tracking.Run())
runpy.run_path(sys.argv[1], run_name="__main__")"""
CASES = {
    "untracked": "no record at all",
    "SQLite": "the default store, beside the training",
    "absent": "nothing listens at the server's address",
    "answers 500": "a server that answers 500 to all",
    "slow": "a server that takes 2 s for each answer, and then it is 500",
    "silent": "a server that takes connections and never answers",
}


class Ill(BaseHTTPRequestHandler):
    """Answers 500, after `seconds`."""

    seconds = 0.0

    def do_GET(self) -> None:
        time.sleep(self.seconds)
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_PATCH = do_GET

    def log_message(self, *_: object) -> None:
        pass


class Slow(Ill):
    seconds = 2.0


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        set_up(folder, options.epochs)
        seconds: dict[str, list[float]] = {case: [] for case in CASES}
        hashes = set()
        for _ in range(options.rounds):
            for case, taken in seconds.items():
                with store(case) as environment:
                    taken.append(run(folder, environment, untracked=case == "untracked"))
                hashes.add(md5(folder / "models/unet.safetensors"))
                print(f"{case}: {taken[-1]:.1f} s", flush=True)
    if len(hashes) > 1:
        raise UserError(f"the weights differ: {sorted(hashes)}")
    text = table(seconds)
    path = Path("reports/tracking_cost.md")
    with atomic_path(path) as temporary:
        temporary.write_text(text)
    print(f"{text}\nAll {options.rounds * len(CASES)} runs: the same weights, {hashes.pop()}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=float, default=0.15, help="of train_unet: its length")
    options = parser.parse_args()
    if options.rounds < 1 or options.epochs <= 0:
        parser.error("--rounds and --epochs must be above 0")
    return options


def set_up(folder: Path, epochs: float) -> None:
    """The project in a folder of its own, with a short training."""
    for name in ("src", "stages", "data", "dvc.yaml"):
        (folder / name).symlink_to(Path(name).absolute())
    (folder / ".dvc").mkdir()
    yaml = YAML()
    params = yaml.load(Path("params.yaml"))
    params["train_unet"] |= {"epochs": epochs, "n_eval_per_step": 1}
    yaml.dump(params, folder / "params.yaml")
    load_params(folder / "params.yaml")


@contextmanager
def store(case: str) -> Iterator[dict[str, str]]:
    """The variables of the environment that name a case's store, while that is there."""
    if case in ("untracked", "SQLite"):
        yield {}
        return
    if case in ("absent", "silent"):
        with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
            port = server.getsockname()[1]
            if case == "silent":
                yield {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
                return
        yield {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow if case == "slow" else Ill) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        yield {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{http.server_port}"}
        http.shutdown()


def run(folder: Path, environment: Mapping[str, str], untracked: bool) -> float:
    """Seconds from a stage's start to its end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_"))}
    command = [sys.executable, *(["-c", UNTRACKED] if untracked else []), STAGE]
    started = time.monotonic()
    subprocess.run(command, cwd=folder, env={**kept, **environment, "PYTHONPATH": "src"}, check=True, text=True)
    return time.monotonic() - started


def table(seconds: Mapping[str, list[float]]) -> str:
    """A line a case, in Markdown: seconds of each round, and the median of its ratios to the round's untracked run."""
    lines = ["| MLflow | what it is | seconds | ratio |", "|---|---|---|---|"]
    for case, taken in seconds.items():
        ratio = median(own / without for own, without in zip(taken, seconds["untracked"], strict=True))
        shown = ", ".join(f"{value:.1f}" for value in taken)
        lines.append(f"| {case} | {CASES[case]} | {shown} | {ratio:.3f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"tracking_cost: {error}")
