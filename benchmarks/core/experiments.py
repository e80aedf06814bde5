"""Runs of the pipeline with changed parameters: DVC experiments, several at a time, outside the workspace.

`dvc exp show` lists them. A finished one is not run again, and one that was killed resumes where it stopped.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, chdir, suppress
from functools import reduce
from itertools import count
from math import isfinite
from operator import getitem
from pathlib import Path
from threading import Event, Lock
from typing import Any, NamedTuple

import psutil
from dvc.api import DVCFileSystem

from benchmarks.core.ledger import Ledger
from benchmarks.core.sharing import Alone
from ddpm import recipes
from ddpm.check import checked_params
from ddpm.errors import UserError
from ddpm.rules import RULES
from ddpm.run.dvc import CHECK, DVC_YAML, declared_stages
from ddpm.run.files import atomic_path, md5
from ddpm.run.params import PARAMS
from ddpm.run.plan import PLAN
from ddpm.run.yaml import load_yaml

LOOK_SECONDS = 0.2
# One at a time, from dvc's start to its first stage. Meanwhile its experiment is on a stack that all DVC processes
# share, and each process runs whatever is on top.
SETTING_UP = Lock()
Metrics = Mapping[str, Mapping[str, Any]]  # stage: its metrics.json
Values = Mapping[str, Any]  # parameters by section
Cell = Mapping[str, object]  # the key of a row in a ledger
Measures = Callable[[Cell, Metrics], Mapping[str, Any]]  # the other columns of the row


class Experiment(NamedTuple):
    """A run of the pipeline: the key of its row in a ledger, and its changes to the parameters."""

    cell: Cell
    changes: Values

    def name(self, prefix: str) -> str:
        """Its name in DVC, unique to its cell."""
        return f"{prefix}-{digest(sorted((key, str(value)) for key, value in self.cell.items()))}"


def settings(stages: Sequence[str], changes: Values, folder: Path = Path()) -> str:
    """A digest of the parameters and files that determine the results of `stages`, with `changes` to params.yaml.

    Code is not included: if a change to it affects results, delete the ledger's rows and the experiments.

    Args:
        stages: Names of stages.
        changes: Changes to params.yaml.
        folder: The pipeline's folder: the top of the repository, or a door.
    """
    params = recipes.merged(load_yaml(folder / PARAMS), changes)
    entries = [load_yaml(folder / DVC_YAML)["stages"][stage] for stage in stages]
    read = {dep for entry in entries for dep in entry["deps"] if Path(dep).parent != PLAN}
    written = {
        path for entry in entries for out in entry.get("outs", []) for path in ([out] if isinstance(out, str) else out)
    }
    inputs = sorted(read - written)
    keys = sorted({key for entry in entries for key in entry["params"]})
    values = {key: reduce(getitem, key.split("."), params) for key in keys}
    return digest([values, {path: md5(folder / path) for path in inputs}])


def reproduce(target: str) -> None:
    """Bring a stage or a pipeline up to date with `dvc repro`, showing its output.

    Raises:
        UserError: A stage failed, or another DVC process is running in this clone.
    """
    command = "dvc", "repro", target
    if subprocess.run([sys.executable, "-m", *command]).returncode:
        raise UserError(f"`{' '.join(command)}` failed (see above); nothing else was run")


def params_with(changes: Values, folder: Path = Path()) -> Any:
    """All of params.yaml with `changes`, checked as by stage `check`, without a door's own rules."""
    with chdir(folder):
        rules = RULES if folder == Path() else ()
        return checked_params(declared_stages(), recipes.merged(load_yaml(PARAMS), changes), rules)


def digest(value: object) -> str:
    """A digest of a JSON value, twelve characters long."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def collect(
    ledger: Ledger,
    stages: Sequence[str],
    experiments: Iterable[Experiment],
    measures: Measures,
    jobs: int,
    folder: Path = Path(),
    sharing: Alone | None = None,
) -> None:
    """Run the experiments that have no row, `jobs` at a time, and add each row as soon as it is available.

    A run that diverges, or whose measures are not finite, also gets a row, with the reason under `failure`.

    Args:
        ledger: Receives the rows. Its name is the prefix of the experiments' names.
        stages: The stages to run. Outputs of other stages are used as they are in the workspace.
        experiments: The experiments to run.
        measures: Computes the columns of a row, besides its cell, from the cell and the stages' metrics.
        jobs: Number of experiments run at a time.
        folder: The pipeline's folder: the top of the repository, or a door.
        sharing: Shares the work with other clones. With None, it is not shared.

    Raises:
        UserError: Some runs failed for another reason. All others have their rows.
    """
    sharing = sharing or Alone()
    wanted = {each.name(ledger.path.stem): each for each in experiments}
    broken, stopped = dict[str, str](), Event()

    def lacking() -> list[str]:
        return [name for name, each in wanted.items() if each.cell not in ledger and name not in broken]

    def take_rows() -> None:
        for name, row in sharing.rows(lacking()):
            cell, values = wanted[name].cell, {key: value for key, value in row.items() if key != "failure"}
            ledger.add(cell, row)
            print(*cell.values(), row["failure"], *(f"{key} {value:.4g}" for key, value in values.items()), flush=True)

    def attempt(name: str) -> str:
        """Run an experiment that no other clone has taken. Return why it failed, or ""."""
        with sharing.lease(name) as mine:
            found = outcome(name, stages, wanted[name].changes, stopped, folder) if mine else ""
            if isinstance(found, str) and "diverged" not in found:
                return found
            sharing.add(name, row_of(found, wanted[name].cell, measures))
        return ""

    take_rows()
    print(f"{len(wanted) - len(lacking())} of {len(wanted)} rows already exist", flush=True)
    with ThreadPoolExecutor(jobs, initializer=_take_cores, initargs=(count(), jobs)) as pool:
        try:
            while left := lacking():
                work = {pool.submit(attempt, name): name for name in left}
                for done in as_completed(work):
                    if trouble := done.result():
                        name = work[done]
                        broken[name] = f"{' '.join(map(str, wanted[name].cell.values()))}: {trouble}"
                    take_rows()
                if lacking():
                    sharing.pause()  # until other clones have finished or lost their experiments
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            end_stages()
            raise
    if broken:
        raise UserError("\n".join((f"{len(broken)} runs failed; start again to retry them", *broken.values())))


def _take_cores(number: "count[int]", jobs: int) -> None:
    """Give this thread, and the experiments that it starts, its share of the cores, if the system supports this."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[next(number) % jobs :: jobs] or cores)  # of this thread only


def row_of(found: Metrics | str, cell: Cell, measures: Measures) -> dict[str, Any]:
    """The row of a finished experiment: its measures, or the message that it diverged."""
    if isinstance(found, str):
        return {"failure": found}
    values = measures(cell, found)
    return {"failure": "; ".join(f"{key} is {value}" for key, value in values.items() if not isfinite(value)), **values}


def outcome(name: str, stages: Sequence[str], changes: Values, stopped: Event, folder: Path = Path()) -> Metrics | str:
    """Run an experiment unless it has finished. Return the metrics of its stages, or why it failed.

    No experiment is started once `stopped` is set.
    """
    if not (ref := _ref(name)):
        file = "" if folder == Path() else f"{folder.as_posix()}/{PARAMS}:"
        targets = [f"{folder.as_posix()}/{DVC_YAML}:{stage}" if file else stage for stage in (CHECK, *stages)]
        asked = [f"{file}{word}" if word != "-S" else word for word in recipes.overrides(changes)]
        command = ["dvc", "--wait-for-lock", "exp", "run", "--temp", "-s", "--name", name, *asked]
        # -s: earlier stages are used as they are in the workspace, whatever the seed
        with ExitStack() as stack:
            with SETTING_UP:
                if stopped.is_set():
                    return "stopped"
                process = stack.enter_context(
                    subprocess.Popen(
                        [sys.executable, "-m", *command, *targets],
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        text=True,
                        start_new_session=True,  # not reached by Ctrl-C (see end_stages)
                    )
                )
                lines = iter(process.stdout or ())
                log = "".join(_until(lambda line: "tage '" in line, lines))
            log += "".join(lines)
        if process.returncode:
            return reason(log, stages)
        ref = _ref(name)
    files = DVCFileSystem(rev=ref)
    paths = {stage: (folder / f"reports/{stage}/metrics.json").as_posix() for stage in stages}
    return {stage: json.loads(files.read_text(path)) for stage, path in paths.items() if files.exists(path)}


def keep_output(name: str, output: Path, path: Path) -> None:
    """Copy an output of an experiment that finished in this clone to `path`, unless it exists."""
    if not path.exists() and (ref := _ref(name)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            DVCFileSystem(rev=ref).get_file(output.as_posix(), temporary.as_posix())


def _until(is_last: Callable[[str], bool], lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if is_last(line):
            return


def end_stages() -> None:
    """Stop the stages of all running experiments, and wait for dvc to exit.

    dvc itself is not interrupted, as the workspace's params.yaml has an experiment's values while dvc sets it up.
    """
    while True:
        at_work = False
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                words = process.cmdline()
                at_work |= words[1:3] == ["-m", "dvc"]
                if any(word.startswith("stages/") for word in words):
                    process.terminate()
        if not at_work:
            return
        time.sleep(LOOK_SECONDS)


def reason(log: str, stages: Sequence[str]) -> str:
    """The line in which a stage reports why it failed, or else the last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip() and "failed to reproduce" not in line]
    return ["no output", *lines[-1:], *(line for line in lines if re.match(rf"({'|'.join(stages)}): ", line))][-1]


def _ref(name: str) -> str:
    """The git reference of a finished experiment, or ""."""
    refs = _git("for-each-ref", "--format=%(refname)", "refs/exps").split()
    return next((ref for ref in refs if ref.endswith(f"/{name}")), "")


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout
