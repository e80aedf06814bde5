"""Rows are unique, keep their order, and survive any failure of the process that adds the next one."""

import subprocess
import sys

import pytest
from project import REPO

from benchmarks.core.ledger import Ledger, groups, latest, numbers

KEY = "name", "seed"


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Ledger(tmp_path / "rows.csv", KEY)


def cell(name, seed=0):
    return {"name": name, "seed": seed}


def test_rows_round_trip_as_text(ledger):
    assert ledger.rows() == []
    assert cell("a") not in ledger
    ledger.add(cell("a"), {"fid": 0.1 + 0.2, "note": 'a "b", c', "none": None})
    assert ledger.rows() == [{"name": "a", "seed": "0", "fid": "0.30000000000000004", "note": 'a "b", c', "none": ""}]
    assert cell("a") in ledger
    assert cell("a", "0") in Ledger(ledger.path, KEY)  # a number and its text are the same key
    assert cell("a", 1) not in ledger


def test_duplicate_keys_keep_the_first_row(ledger):
    for value in (1, 2):
        ledger.add(cell("a"), {"fid": value})
    assert ledger.rows() == [{"name": "a", "seed": "0", "fid": "1"}]


def test_new_metric_adds_a_column(ledger):
    ledger.add(cell("a"), {"fid": 1})
    ledger.add(cell("b"), {"fid": 2, "kid": 3})
    ledger.add(cell("c"), {"kid": 4})
    assert [(row["fid"], row["kid"]) for row in ledger.rows()] == [("1", ""), ("2", "3"), ("", "4")]
    assert numbers(ledger.rows(), "kid") == [3.0, 4.0]
    assert numbers(ledger.rows(), "recall") == []


def python(code, *words):
    """A process that runs `code` in the working folder."""
    path = {"PYTHONPATH": f"{REPO}:{REPO / 'src'}"}
    return subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True, env=path)


ADDING = """import sys
from pathlib import Path
from benchmarks.core.ledger import Ledger
for seed in range(10):
    for name in ("shared", sys.argv[1]):
        Ledger(Path("rows.csv"), ("name", "seed")).add({"name": name, "seed": seed}, {"worker": sys.argv[1]})
"""


def test_concurrent_processes_lose_no_rows(ledger):
    for process in [python(ADDING, name) for name in ("a", "b")]:
        process.communicate()
        assert process.returncode == 0
    keys = [(row["name"], row["seed"]) for row in ledger.rows()]
    assert len(keys) == len(set(keys)) == 30


KILLED = """import os, signal, sys
from pathlib import Path
import ddpm.run.files
from benchmarks.core.ledger import Ledger
ledger = Ledger(Path("rows.csv"), ("name", "seed"))
for name in "abc":
    if {"name": name, "seed": 0} in ledger:
        continue
    print("makes", name, flush=True)
    if len(ledger.rows()) == 1 and sys.argv[1] == "killed":
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)  # amid the writing of the second row
    ledger.add({"name": name, "seed": 0}, {"fid": 1})
"""


def test_killed_write_keeps_whole_rows_and_can_resume(ledger):
    for how, code, made, kept in (("killed", -9, "ab", "a"), ("whole", 0, "bc", "abc")):
        process = python(KILLED, how)
        assert process.communicate()[0].split()[1::2] == list(made)
        assert process.returncode == code
        assert [row["name"] for row in ledger.rows()] == list(kept)


def test_latest_keeps_settings_of_newest_row_per_group(tmp_path):
    ledger = Ledger(tmp_path / "rows.csv", ("settings", "name", "seed"))
    rows = [("old", "a", 0), ("old", "b", 0), ("new", "a", 0), ("new", "a", 1)]
    for row in rows:
        ledger.add(dict(zip(ledger.key, row, strict=True)), {})
    kept = latest(ledger.rows(), of=("name",), agree=("settings",))
    assert [tuple(row.values()) for row in kept] == [("old", "b", "0"), ("new", "a", "0"), ("new", "a", "1")]
    assert [row["settings"] for row in latest(ledger.rows(), of=(), agree=("settings",))] == ["new", "new"]


def test_groups_keep_order_of_first_rows():
    rows = [{"a": "2", "b": "x"}, {"a": "1", "b": "x"}, {"a": "2", "b": "y"}]
    assert [(key, len(found)) for key, found in groups(rows, "a")] == [(("2",), 2), (("1",), 1)]
    assert [key for key, _ in groups(rows, "a", "b")] == [("2", "x"), ("1", "x"), ("2", "y")]
