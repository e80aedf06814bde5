"""A clone that shares experiments, as a separate process. Experiments take 0.3 s and record that they have run."""

import time
from contextlib import chdir
from pathlib import Path

from benchmarks.core import experiments
from benchmarks.core.experiments import Experiment, collect
from benchmarks.core.ledger import Ledger
from benchmarks.core.sharing import Sharing

RENEW, DEAD = 0.2, 3.0


def work(clone: Path, n: int) -> None:
    """Take experiments until all n have a row in the clone's rows.csv."""
    wanted = [Experiment({"lead": "a, b", "seed": seed}, {}) for seed in range(n)]

    def outcome(name, *_):
        time.sleep(0.3)
        with (clone.parent / "ran").open("a") as file:
            file.write(f"{clone.name} {name}\n")
        return {"train": {"fid": int(name[-12:], 16) / 3}}

    experiments.outcome = outcome
    with chdir(clone):
        ledger = Ledger(Path("rows.csv"), ("lead", "seed"))
        collect(ledger, ("train",), wanted, lambda _, found: found["train"], 1, sharing=Sharing("origin", RENEW, DEAD))
