"""DVC experiments: a toy pipeline with one stage, whose parameters determine its outcome."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import Barrier, Event, Thread

import psutil
import pytest
from dvc.utils.hydra import apply_overrides
from project import REPO
from ruamel.yaml import YAML

from benchmarks.core.experiments import (
    Experiment,
    _ref,
    _take_cores,
    collect,
    keep_output,
    outcome,
    params_with,
    reason,
    reproduce,
    row_of,
    settings,
)
from benchmarks.core.ledger import Ledger
from benchmarks.core.sharing import Sharing
from ddpm import recipes
from ddpm.errors import UserError

DVC_YAML = f"""
stages:
  check:
    cmd: {sys.executable} -c "open('checked', 'w')"
    deps: [params.yaml]
    outs: [checked]
  train:
    cmd: {sys.executable} stages/train.py
    deps: [stages/train.py, data.txt, plan/train.json]
    params: [seed, train]
    outs: [weights, notes: {{cache: false}}]
    metrics: [{{reports/train/metrics.json: {{cache: false}}}}]
"""
TRAIN = """import json, os, sys, time, yaml
params = yaml.safe_load(open("params.yaml"))
lr = params["train"]["lr"]
open("runs", "a").write(f"{lr}\\n")
if lr < 1:
    time.sleep(60)
if lr > 8:
    sys.exit("train: " + ("training diverged: the loss is nan" if lr > 9 else "no room"))
os.makedirs("reports/train", exist_ok=True)
json.dump({"fid": float("nan") if lr > 7 else params["train"]["base"] + lr}, open("reports/train/metrics.json", "w"))
open("weights", "w").write(str(lr))
open("notes", "w").write("")
"""
BASE = {"train": {"base": 100.0}}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("plan", "stages"):
        (tmp_path / folder).mkdir()
    texts = {
        "dvc.yaml": DVC_YAML,
        "stages/train.py": TRAIN.replace('"runs"', repr(str(tmp_path / "runs"))),
        "params.yaml": "seed: 0\nother: 1\ntrain: {lr: 1.0, base: 0.0}\n",
        "data.txt": "data",
        "plan/train.json": "{}",
        ".gitignore": "weights\nchecked\nrows.csv\nruns\n.benchmark\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def repository(project):
    for words in (("git", "init", "-q"), (sys.executable, "-m", "dvc", "init", "-q")):
        subprocess.run(words, check=True)
    subprocess.run(["git", "config", "user.email", "t@t"], check=True)
    subprocess.run(["git", "config", "user.name", "t"], check=True)
    subprocess.run(["git", "add", "-A"], check=True)
    subprocess.run(["git", "commit", "-qm", "x"], check=True)
    return project


def experiment(lr):
    return Experiment({"name": f"{lr:g}", "seed": 0}, recipes.merged(BASE, {"train": {"lr": lr}}))


def test_settings_depend_only_on_deps_and_params_of_the_stages(project):
    before = settings(("train",), BASE)
    (project / "params.yaml").write_text("seed: 0\nother: 2\ntrain: {base: 7.0, lr: 1.0}\n")  # base is changed anyway
    (project / "plan/train.json").write_text('{"another": "digest"}')
    (project / "weights").write_text("its own output")
    assert settings(("train",), BASE) == before
    assert settings(("train",), {}) != before
    (project / "data.txt").write_text("other data")
    assert settings(("train",), BASE) != before


def test_experiment_names_are_unique_valid_git_refs():
    names = {Experiment({"lead": "v, loss of x0", "seed": seed}, {}).name("leads") for seed in range(3)}
    names.add(Experiment({"lead": "v", "seed": 0}, {}).name("leads"))
    assert len(names) == 4
    for name in names:
        subprocess.run(["git", "check-ref-format", f"refs/exps/{name}"], check=True)


def test_reason_is_the_error_line_of_the_stage():
    log = "Running stage 'train':\ntrain: training diverged\n\nERROR: failed to reproduce 'train': exited with 2\n"
    assert reason(log, ("train", "sample")) == "train: training diverged"
    assert reason("a\n\nERROR: no space left\n", ("train",)) == "ERROR: no space left"
    assert reason("\n", ("train",)) == "no output"


def test_infinite_measures_are_failures():
    for value in (float("inf"), float("-inf"), float("nan")):
        row = row_of({}, {}, lambda *_, value=value: {"fid": 1.0, "auc": value})
        assert (row["failure"], row["fid"]) == (f"auc is {value}", 1.0)


def test_collect_records_each_outcome_once(repository, capsys):
    """One run succeeds, one measures NaN, one diverges and one fails."""
    ledger = Ledger(repository / "rows.csv", ("name", "seed"))
    wanted = [experiment(lr) for lr in (2.0, 7.5, 10.0, 9.0)]
    with pytest.raises(UserError, match=r"1 runs failed[\s\S]*train: no room"):
        collect(ledger, ("train",), wanted, lambda _, metrics: metrics["train"], jobs=2)
    rows = {row["name"]: (row["failure"], row["fid"]) for row in ledger.rows()}
    assert rows["2"] == ("", "102.0")
    assert rows["7.5"] == ("fid is nan", "nan")
    assert rows["10"] == ("train: training diverged: the loss is nan", "")
    assert rows.keys() == {"2", "7.5", "10"}
    assert sorted((repository / "runs").read_text().split()) == ["10.0", "2.0", "7.5", "9.0"]
    assert (repository / "params.yaml").read_text().endswith("{lr: 1.0, base: 0.0}\n")  # the workspace is unchanged

    collect(ledger, ("train",), wanted[:3], lambda _, metrics: metrics["train"], jobs=2)
    assert "3 of 3 rows already exist" in capsys.readouterr().out
    ledger.path.unlink()  # as if it had been killed before it wrote the row of a finished run
    collect(ledger, ("train",), wanted[:1], lambda _, metrics: metrics["train"], jobs=2)
    assert [row["fid"] for row in ledger.rows()] == ["102.0"]
    assert len((repository / "runs").read_text().split()) == 4  # nothing ran again
    assert _ref(wanted[0].name("rows")).startswith("refs/exps/")
    assert json.dumps(outcome(wanted[0].name("rows"), ("train",), {}, Event())) == '{"train": {"fid": 102.0}}'
    for name in (wanted[0].name("rows"), wanted[0].name("rows"), "never-run"):
        keep_output(name, Path("weights"), repository / name / "weights")
    assert (repository / wanted[0].name("rows") / "weights").read_text() == "2.0"
    assert not (repository / "never-run").exists()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not assign cores to threads")
def test_runs_at_the_same_time_share_the_cores():
    """One run may use all cores. Several runs share no core, unless there are more runs than cores."""
    mine = os.sched_getaffinity(0)

    def given(jobs):
        both_are_there = Barrier(jobs)

        def look():
            both_are_there.wait()
            return os.sched_getaffinity(0)

        with ThreadPoolExecutor(jobs, initializer=_take_cores, initargs=(count(), jobs)) as pool:
            return [work.result() for work in [pool.submit(look) for _ in range(jobs)]]

    assert given(1) == [mine]
    shares = given(len(mine))
    assert sorted(core for share in shares for core in share) == sorted(mine)
    assert all(share and share <= mine for share in given(len(mine) + 1))
    assert os.sched_getaffinity(0) == mine


def test_ctrl_c_stops_stages_and_keeps_the_workspace(repository, request):
    """Of three sleeping runs, one is at work, one is being set up and one waits at the signal."""
    started_with = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, started_with))
    ledger, before = Ledger(repository / "rows.csv", ("name", "seed")), (repository / "params.yaml").read_bytes()

    sessions, wanted = set(), [experiment(lr) for lr in (0.2, 0.4, 0.6)]

    def interrupt():
        while not (repository / "runs").exists():
            time.sleep(0.1)
        sessions.update(os.getsid(child.pid) for child in psutil.Process().children(True))
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        collect(ledger, ("train",), wanted, lambda _, metrics: metrics["train"], jobs=2)
    assert os.getsid(0) not in sessions  # a terminal's Ctrl-C does not reach dvc
    ran = (repository / "runs").read_text().split()  # either of the two workers may be first
    assert ran
    assert set(ran) <= {"0.2", "0.4"}  # the second was being set up, or about to be
    assert (repository / "params.yaml").read_bytes() == before
    assert ledger.rows() == []
    assert not any("train.py" in word for child in psutil.Process().children(True) for word in child.cmdline())


@pytest.mark.parametrize("name", ["course", "ablation"])
def test_merged_params_match_dvc_overrides(name, tmp_path, monkeypatch):
    monkeypatch.chdir(REPO)
    changes = recipes.load(name)
    yaml = YAML(typ="safe")
    yaml.dump(yaml.load(REPO / "params.yaml"), tmp_path / "params.yaml")
    apply_overrides(str(tmp_path / "params.yaml"), recipes.overrides(changes)[1::2])
    assert yaml.load(tmp_path / "params.yaml") == recipes.merged(yaml.load(REPO / "params.yaml"), changes)
    assert params_with(changes).train_unet.batch_size == changes["train_unet"]["batch_size"]


def test_door_pipeline_runs_in_its_folder(repository):
    """The toy pipeline as a door, one of whose files is the main pipeline's."""
    door = repository / "doors/toy"
    door.mkdir(parents=True)
    for name in ("dvc.yaml", "params.yaml", "stages", "plan"):
        (repository / name).rename(door / name)
    (door / "dvc.yaml").write_text(DVC_YAML.replace("data.txt", "../../data.txt"))
    subprocess.run(["git", "add", "-A"], check=True)
    subprocess.run(["git", "commit", "-qm", "door"], check=True)
    folder = Path("doors/toy")
    before = settings(("train",), BASE, folder)
    ledger = Ledger(repository / "rows.csv", ("name", "seed"))
    collect(ledger, ("train",), [experiment(2.0)], lambda _, metrics: metrics["train"], jobs=1, folder=folder)
    assert [row["fid"] for row in ledger.rows()] == ["102.0"]
    (repository / "data.txt").write_text("other data")
    assert settings(("train",), BASE, folder) != before


@pytest.mark.torture
def test_clones_share_results_without_rerunning(repository, tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("clones")
    subprocess.run(["git", "clone", "--quiet", "--bare", ".", folder / "remote"], check=True)
    for name, lrs in (("one", (2.0, 10.0)), ("two", (2.0, 10.0, 3.0))):
        subprocess.run(["git", "clone", "--quiet", folder / "remote", folder / name], check=True)
        monkeypatch.chdir(folder / name)
        subprocess.run(["git", "config", "user.email", "t@t"], check=True)
        subprocess.run(["git", "config", "user.name", "t"], check=True)
        ledger, wanted = Ledger(Path("rows.csv"), ("name", "seed")), [experiment(lr) for lr in lrs]
        sharing = Sharing("origin")
        collect(ledger, ("train",), wanted, lambda _, metrics: metrics["train"], jobs=2, sharing=sharing)
    rows = {row["name"]: (row["failure"], row["fid"]) for row in ledger.rows()}
    assert (rows["2"], rows["3"]) == (("", "102.0"), ("", "103.0"))
    assert "diverged" in rows["10"][0]
    assert sorted((repository / "runs").read_text().split()) == ["10.0", "2.0", "3.0"]


def test_reproduce_reports_failed_stage_in_one_line(repository):
    reproduce("train")
    assert (repository / "weights").read_text() == "1.0"
    (repository / "params.yaml").write_text("train: {lr: 8.5, base: 0.0}\nseed: 0\n")
    with pytest.raises(UserError, match=r"^`dvc repro train` failed \(see above\); nothing else was run$"):
        reproduce("train")
