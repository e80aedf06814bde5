"""Table 2 of Ho et al. 2020, and more: what the network predicts, what the loss weighs, which variance it samples with.

    python benchmarks/ablation.py

Each cell is trained once a seed, with the small equal budget of recipes/ablation.yaml, as an experiment in DVC's queue:
`dvc queue status` and `dvc exp show` show them. Writes reports/ablation/. Runs that diverge stay in the table. A row
that is there for the same settings and classifier is not made again, so it can be stopped (Ctrl-C) and go on.
"""

import argparse
import csv
import hashlib
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import product
from math import isfinite
from pathlib import Path
from typing import Any

from ablation_report import PREDICTIONS, VARIANCES, WEIGHTINGS, Row, figure, table
from dvc.cli import main as dvc_main
from ruamel.yaml import YAML

from ddpm import recipes
from ddpm.errors import UserError
from ddpm.evaluation.classifier import load_classifier
from ddpm.figures.canvas import save
from ddpm.run.files import atomic_path, write_csv

STAGES = ("train_unet", "sample_unet", "evaluate_unet", "bound")  # no others run, so all cells share one classifier
MEASURED = ("train_unet", "evaluate_unet", "bound")
CLASSIFIER = Path("models/classifier.safetensors")
REPORTS = Path("reports/ablation")
MEASURES = ("fid_fashion_cnn", "fid_fashion_cnn_floor", "bits_per_dim", "eval_loss")
COLUMNS = ("experiment", "prediction", "weighting", "variance", "seed", "failure", *MEASURES)
SECONDS = 10.0  # between two looks at the queue
INTERRUPTED = 252  # dvc's exit status after Ctrl-C


@dataclass(frozen=True)
class Cell:
    """One training of the table."""

    prediction: str
    weighting: str
    variance: str
    seed: int

    def experiment(self, settings: Mapping[str, Any]) -> str:
        """A name for the experiment that is another one for other `settings`."""
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        variance = self.variance.partition("_")[0]
        return f"ablation-{self.prediction}-{self.weighting}-{variance}-{self.seed}-{digest[:6]}"


def main() -> None:
    options = arguments()
    print("The classifier that judges the samples has to be up to date: dvc repro train_classifier", flush=True)
    dvc("repro", "train_classifier")
    yaml = YAML(typ="safe", pure=True)
    params, stages = yaml.load(Path("params.yaml")), yaml.load(Path("dvc.yaml"))["stages"]
    keys = sorted({key for stage in STAGES for key in stages[stage]["params"]})
    recipe = recipes.load("ablation")
    _, extractor = load_classifier(CLASSIFIER)
    wanted, overrides = {}, {}
    for place in product(PREDICTIONS, WEIGHTINGS, VARIANCES, options.seeds):
        cell = Cell(*place)
        changed = recipes.merged(recipe, changes(cell))
        effective = recipes.merged(params, changed)
        name = cell.experiment({"extractor": extractor, **{key: decisive(at(effective, key)) for key in keys}})
        wanted[name], overrides[name] = cell, recipes.overrides(changed)

    scored, drawn = effective["evaluate_unet"], effective["sample"]["unet"]
    facts = f"N = {scored['n_samples']}, {drawn['n_steps']} steps, against {scored['reference']}, extractor {extractor}"
    known = {row["experiment"]: row for row in read(REPORTS / "ablation.csv")}
    rows = {name: known[name] for name in wanted if name in known}
    collect(wanted, rows, queue())
    left = [name for name in wanted if name not in rows]
    print(f"{len(rows)} of {len(wanted)} runs are there already", flush=True)
    try:
        if left:
            enqueue(left, overrides)
            wait(wanted, rows, options.jobs)
    except KeyboardInterrupt:
        dvc("queue", "stop", "--kill")
        raise
    finally:
        report([rows[name] for name in wanted if name in rows], facts)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-j", "--jobs", type=int, default=2, help="runs at once, each on one core")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    if options.jobs < 1 or min(options.seeds) < 0:
        parser.error("--jobs must be at least 1, --seeds at least 0")
    return options


def changes(cell: Cell) -> dict[str, Any]:
    """What a cell stands for, in the words of params.yaml."""
    training = {
        "prediction": cell.prediction,
        "weighting": cell.weighting,
        "learn_variance": cell.variance == "learned",
    }
    sampling = {"unet": {"variance": cell.variance}}
    return {"seed": cell.seed, "train_unet": training, "sample": sampling, "bound": {"variances": [cell.variance]}}


def enqueue(names: Iterable[str], overrides: Mapping[str, list[str]]) -> None:
    """Put what does not wait or run already into DVC's queue, and take out what is left of other settings."""
    states = queue()
    stale = [name for name, state in states.items() if name not in overrides and name.startswith("ablation-")]
    ended = [name for name in names if states.get(name, "Queued") not in ("Queued", "Running")]
    if remove := [*(name for name in stale if states[name] != "Running"), *ended]:
        dvc("queue", "remove", *remove)
    for name in names:
        if name in ended or name not in states:
            print(f"queues {name}", flush=True)
            # -s: the stages before these are as they stand in the workspace, whatever the seed
            dvc("exp", "run", "--queue", "-s", "--name", name, *overrides[name], *STAGES)


def wait(wanted: Mapping[str, Cell], rows: dict[str, Row], jobs: int) -> None:
    """Let DVC work its queue off, and keep each run's row as soon as it is there."""
    started = time.monotonic()
    while True:
        states = queue()
        waiting, busy = (list(states.values()).count(state) for state in ("Queued", "Running"))
        if waiting and busy < jobs:  # a worker ends by itself now and then; those that live are not started twice
            dvc("queue", "start", "--jobs", str(jobs))
        for name in collect(wanted, rows, states):
            so_far = f"{len(rows)} of {len(wanted)}, after {(time.monotonic() - started) / 60:.0f} min"
            print(f"{so_far}: {name}: {rows[name]['failure'] or rows[name]['fid_fashion_cnn']}", flush=True)
        if not any(states.get(name) in ("Queued", "Running") for name in wanted if name not in rows):
            break
        time.sleep(SECONDS)
    if broken := [name for name in wanted if name not in rows]:
        reasons = "\n".join(f"{name}: {reason(dvc('queue', 'logs', name))}" for name in broken if name in states)
        raise UserError(f"{len(broken)} runs broke off; start again to repeat them\n{reasons}")


def collect(wanted: Mapping[str, Cell], rows: dict[str, Row], states: Mapping[str, str]) -> list[str]:
    """Add the rows of runs that have ended since; their names. Runs that were killed or broke down have none."""
    refs = {ref.rpartition("/")[2]: ref for ref in git("for-each-ref", "--format=%(refname)", "refs/exps").split()}
    added = []
    for name, cell in wanted.items():
        if name in rows:
            continue
        if name in refs:
            rows[name] = row(name, cell, list(metrics(refs[name])))
        elif states.get(name) == "Failed" and "diverged" in (why := reason(dvc("queue", "logs", name))):
            rows[name] = row(name, cell, failure=why)
        else:
            continue
        added.append(name)
    if added:
        everything = {other["experiment"]: other for other in read(REPORTS / "ablation.csv")} | rows
        write_csv(REPORTS / "ablation.csv", COLUMNS, ([each[key] for key in COLUMNS] for each in everything.values()))
    return added


def metrics(ref: str) -> Iterator[Mapping[str, Any]]:
    """The metrics of an experiment's own stages."""
    for stage in MEASURED:
        yield json.loads(git("show", f"{ref}:reports/{stage}/metrics.json"))


def row(name: str, cell: Cell, found: Iterable[Mapping[str, Any]] = (), failure: str = "") -> dict[str, str]:
    """A line of ablation.csv; a quality that is not finite is a failure too."""
    values: dict[str, Any] = {}
    for measured in found:
        values |= measured
    if cell.variance in values:
        values["bits_per_dim"] = values[cell.variance]["test"]["bits_per_dim"]
    known = {key: values[key] for key in MEASURES if key in values}
    bad = [f"{key} is {value}" for key, value in known.items() if not isfinite(value)]
    about = (name, cell.prediction, cell.weighting, cell.variance, cell.seed, failure or "; ".join(bad))
    return dict(zip(COLUMNS, map(str, (*about, *(known.get(key, "") for key in MEASURES))), strict=True))


def reason(log: str) -> str:
    """The line by which a stage said why it ended, or the last one there is."""
    lines = [line.strip() for line in log.splitlines() if line.strip()] or ["no log"]
    said = [line for line in lines if re.match(rf"({'|'.join(STAGES)}): ", line)]
    return (said or lines)[-1]


def report(rows: Sequence[Row], facts: str) -> None:
    """table2.md and ablation.png, of the runs that have ended; facts: how they were all measured."""
    if rows:
        with atomic_path(REPORTS / "table2.md") as temporary:
            temporary.write_text(table(rows, facts), encoding="utf-8")
        save(figure(rows, facts), REPORTS / "ablation.png")


def at(params: Mapping[str, Any], key: str) -> Any:
    """The value, or the section, under a dotted key."""
    first, _, rest = key.partition(".")
    return at(params[first], rest) if rest else params[first]


def decisive(value: Any) -> Any:
    """A value or section without what leaves a run's results as they are."""
    return {k: v for k, v in value.items() if k != "checkpoint_seconds"} if isinstance(value, Mapping) else value


def queue() -> dict[str, str]:
    """The state of each named experiment in DVC's queue: Queued, Running, Success, Failed, ..."""
    lines = (line.split() for line in dvc("queue", "status").splitlines())
    return {words[1]: words[-1] for words in lines if len(words) > 3 and words[1].startswith("ablation-")}


def dvc(*words: str) -> str:
    """What `dvc WORDS` prints, run in this process: dvc takes seconds to start. UserError where it fails."""
    with redirect_stdout(io.StringIO()) as said:
        code = dvc_main(list(words))
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise UserError(f"dvc {' '.join(words[:2])} failed, for the reason above")
    return said.getvalue()


def git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout


def read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"ablation: {error}")
    except KeyboardInterrupt:
        sys.exit("ablation: stopped; start it again to go on")
