"""Mutation tests: each mutant is a realistic mistake, and a test must fail on it. `make mutants`.

The mutants are in the YAML files beside this script, one file per package:

    - what: the learning rate's step is off by one
      file: src/ddpm/training/loop.py
      from: lr_factor(number - 1, total,
      to: lr_factor(number, total,
      tests: tests/training

`from` must occur exactly once in the file. Each mutant is applied to a copy of the project, where its tests run until
the first failure. The result is written to docs/results/mutants.md. Arguments select mutants by part of a file or text.
"""

import multiprocessing
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import yaml

# Each process is forked from one that has imported the slow libraries, and nothing of the project.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["torch", "torchvision", "scipy.stats", "pytest", "pydantic", "mlflow"])
REPO = Path(__file__).parents[2]
RESULT = REPO / "docs/results/mutants.md"
WORKERS = 2
TIMEOUT = 600  # seconds, after which a mutant that hangs is killed
LARGEST = 2**30  # bytes of a file that a mutant may write


class Mutant(NamedTuple):
    """A mistake: what it is, where, and the tests that must notice it."""

    what: str
    file: str
    old: str
    new: str
    tests: str


def load(folder: Path = Path(__file__).parent) -> Iterator[Mutant]:
    """Yield all mutants.

    Raises:
        ValueError: The `from` of a mutant does not occur exactly once in its file, or the mutant changes nothing.
    """
    for path in sorted(folder.glob("*.yaml")):
        for entry in yaml.safe_load(path.read_text()):
            mutant = Mutant(entry["what"], entry["file"], entry["from"], entry["to"], entry["tests"])
            found = (REPO / mutant.file).read_text().count(mutant.old)
            if found != 1 or mutant.old == mutant.new:
                raise ValueError(f"{path.name}: {mutant.what}: {mutant.old!r} stands {found} times in {mutant.file}")
            yield mutant


def copy_project(folder: Path) -> None:
    """What git knows of the project, committed or not."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPO,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (REPO / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPO / name, folder / name)
    for kept in (".venv", ".data"):
        if (REPO / kept).exists():
            (folder / kept).symlink_to(REPO / kept)


def passes(folder: Path, tests: str) -> bool:
    """Whether the tests pass in a copy of the project."""
    log = folder.with_suffix(".log")
    process = FORKS.Process(target=run_tests, args=(folder, shlex.split(tests), log))
    process.start()
    process.join(TIMEOUT)
    if process.exitcode is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        return False
    if process.exitcode not in (0, 1, 2):  # 2: the mutant cannot even be imported
        raise RuntimeError(f"{tests}: exit code {process.exitcode}: {log.read_text()[-2000:]}")
    return process.exitcode == 0


def run_tests(folder: Path, tests: Sequence[str], log: Path) -> None:
    """Run pytest in a copy of the project and end this process with its exit code."""
    os.setsid()  # so that a mutant that hangs is killed with the processes that it started
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, LARGEST))  # so that no mutant fills the disk
    os.chdir(folder)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
    import pytest

    quiet = "-W", "ignore::pytest.PytestAssertRewriteWarning"  # of plugins that are imported already
    temporary = f"--basetemp={folder.with_suffix('.tmp')}"
    sys.exit(pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", temporary, *quiet, *tests]))


def survives(mutant: Mutant, folder: Path) -> bool:
    """Whether the mutant's tests pass although it is in place."""
    path = folder / mutant.file
    original = path.read_text()
    path.write_text(original.replace(mutant.old, mutant.new))
    try:
        return passes(folder, mutant.tests)
    finally:
        path.write_text(original)


def run(mutants: Sequence[Mutant]) -> dict[Mutant, bool]:
    """Run all mutants, and return whether each survives.

    Raises:
        RuntimeError: Tests fail without any mutant.
    """
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(WORKERS) as pool:
        folders: SimpleQueue[Path] = SimpleQueue()
        for worker in range(WORKERS):
            copy_project(Path(name, str(worker)))
            folders.put(Path(name, str(worker)))

        def with_folder(work, *arguments):
            folder = folders.get()
            try:
                return work(*arguments, folder)
            finally:
                folders.put(folder)

        suites = sorted({mutant.tests for mutant in mutants})
        for tests, fine in zip(
            suites, pool.map(lambda t: with_folder(lambda s, f: passes(f, s), t), suites), strict=True
        ):
            if not fine:
                raise RuntimeError(f"{tests} fails without a mutant")
        found = {}
        for mutant, alive in zip(mutants, pool.map(lambda m: with_folder(survives, m), mutants), strict=True):
            found[mutant] = alive
            print("SURVIVES" if alive else "killed  ", mutant.file, "|", mutant.what, flush=True)
        return found


def report(found: dict[Mutant, bool]) -> str:
    """The result as Markdown: mutants killed per package, and every survivor."""
    rooms: dict[str, list[bool]] = {}
    for mutant, alive in found.items():
        parts = Path(mutant.file).parts
        rooms.setdefault(parts[2] if parts[:2] == ("src", "ddpm") else parts[0], []).append(alive)
    killed = sum(not alive for alive in found.values())
    lines = [
        "# Mutation tests",
        "",
        f"`make mutants`: {killed} of {len(found)} killed ({100 * killed / len(found):.0f} %).",
        "",
        "| package | mutants | killed |",
        "|---|---|---|",
        *(f"| {room} | {len(alive)} | {alive.count(False)} |" for room, alive in sorted(rooms.items())),
        "",
        *(f"- Survived: {m.what} (`{m.file}`: `{' '.join(m.new.split())}`)" for m, alive in found.items() if alive),
    ]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    every = list(load())
    chosen = [m for m in every if all(word in f"{m.file} {m.what}" for word in sys.argv[1:])]
    if not chosen:
        sys.exit(f"mutate: no mutant has {' and '.join(sys.argv[1:])} in its file or text")
    results = run(chosen)
    print(report(results))
    if chosen == every:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(report(results))
