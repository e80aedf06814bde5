"""Seconds that each stage takes to start and to end, without its own work.

    python -m benchmarks.start_up            # two minutes, after `make repro`

`until work` covers imports, parameters and tracking. `total` includes the end of the MLflow run, which otherwise
happens in the background while the stage works. Writes docs/results/start_up.md.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.core.options import parser
from benchmarks.core.rates import machine
from benchmarks.core.report import insert, table
from benchmarks.core.stages import altered, environment
from ddpm.run.dvc import declared_stages
from ddpm.run.stage import mistakes_in_one_line

DOC = Path("docs/results/start_up.md")


def main() -> None:
    parser(__doc__).parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        apart = environment(DVC_ROOT=folder, MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db")
        for name, declared in declared_stages().items():
            command = altered(declared.script.as_posix(), name, "main=lambda _: print(time.time())")
            began = time.time()
            done = subprocess.run(command, env=apart, check=True, stdout=subprocess.PIPE, text=True)
            rows.append((name, f"{float(done.stdout) - began:.1f}", f"{time.time() - began:.1f}"))
    began = time.time()
    idle = subprocess.run([sys.executable, "-m", "dvc", "status", "--quiet"], env=environment()).returncode == 0
    rows.append(("`dvc status`" if idle else "`dvc status`, not up to date", "", f"{time.time() - began:.1f}"))
    insert(DOC, f"Seconds on {machine()}.\n\n{table(('stage', 'until work', 'total'), rows)}")


if __name__ == "__main__":
    with mistakes_in_one_line("start_up"):
        main()
