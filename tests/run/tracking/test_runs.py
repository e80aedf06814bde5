"""Where MLflow runs go, and how they are grouped."""

import os
import shutil
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest
from mlflow import MlflowClient
from runs import parent_id, runs, under_dvc

import ddpm
from ddpm.run.invocation import invocation
from ddpm.run.root import repo_root
from ddpm.run.tracking.durations import minutes_of_experiments
from ddpm.run.tracking.outbox import tracking_uri, waiting
from ddpm.run.tracking.record import stage_run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's use of SQLAlchemy


def test_repo_root_prefers_dvc_root_then_nearest_dvc_folder(repository, tmp_path, monkeypatch):
    below = repository / "src" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert repo_root() == repository
    monkeypatch.chdir(tmp_path)
    assert repo_root() == tmp_path
    monkeypatch.setenv("DVC_ROOT", str(repository))
    assert repo_root() == repository


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "sqlite:////main/mlflow.db"),
        ("", "sqlite:////main/mlflow.db"),
        ("sqlite:///runs/all.db", "sqlite:////main/runs/all.db"),
        ("sqlite:////elsewhere/all.db", "sqlite:////elsewhere/all.db"),
        ("http://localhost:5000", "http://localhost:5000"),
    ],
)
def test_tracking_uri_honours_environment(given, expected, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", "/main")
    if given is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert tracking_uri() == expected


def test_experiment_copy_logs_to_main_repository(repository, monkeypatch):
    copy = repository / ".dvc" / "tmp" / "exps" / "standalone" / "tmp1"
    (copy / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(repository))
    Path("models").mkdir()
    Path("models/tiny.bin").write_bytes(b"abc")
    with stage_run("train_tiny", {}) as run:
        run.log_artifact(Path("models/tiny.bin"))
    shutil.rmtree(copy)
    monkeypatch.chdir(repository)
    _, [child] = runs()
    assert [file.read_bytes() for file in (repository / "mlartifacts").rglob("models/tiny.bin")] == [b"abc"]
    kept = MlflowClient(tracking_uri()).download_artifacts(child.info.run_id, "models/tiny.bin")
    assert Path(kept).read_bytes() == b"abc"


def test_each_dvc_command_has_one_parent_run(monkeypatch):
    under_dvc(monkeypatch, "host 10 1.00")
    for stage in ("generate_gradients", "train_tiny"):
        with stage_run(stage, {}):
            pass
        assert [parent.info.status for parent in runs()[0]] == ["FINISHED"]
    under_dvc(monkeypatch, "host 10 2.00")  # the same process id, reused later
    monkeypatch.setenv("DVC_EXP_NAME", "bold-fish")
    monkeypatch.setenv("DVC_STAGE", "sample@tiny")
    with stage_run("sample", {}):
        pass
    parents, children = runs()
    assert [parent.info.run_name for parent in parents] == ["repro", "bold-fish"]
    assert [child.info.run_name for child in children] == ["generate_gradients", "train_tiny", "sample"]
    first, second = (parent.info.run_id for parent in parents)
    assert [parent_id(child) for child in children] == [first, first, second]
    assert children[-1].data.tags["dvc.stage"] == "sample@tiny"
    assert children[-1].data.tags["dvc.exp_name"] == "bold-fish"
    assert {run.info.status for run in parents + children} == {"FINISHED"}


def test_stages_started_by_hand_do_not_share_a_parent(monkeypatch):
    monkeypatch.setattr(psutil.Process, "parents", lambda _: [])
    for _ in range(2):
        with stage_run("render_grids", {}):
            pass
    parents, children = runs()
    assert [parent.info.run_name for parent in parents] == ["render_grids by hand"] * 2
    assert [parent_id(child) for child in children] == [parent.info.run_id for parent in parents]


@pytest.mark.parametrize(
    ("command", "is_dvc"),
    [
        (["dvc", "exp", "exec-run"], True),
        (["/v/bin/python3.11", "/v/bin/dvc", "repro"], True),
        (["python", "-W", "ignore", "-m", "dvc", "repro"], True),
        (["bash", "-c", "dvc repro"], False),
        (["make", "dvc"], False),
        (["python", "stages/dvc_report.py"], False),
        ([], False),
    ],
)
def test_invocation_is_nearest_dvc_ancestor(command, is_dvc, monkeypatch):
    def process(pid, argv):
        return Mock(psutil.Process, pid=pid, cmdline=lambda: argv, create_time=lambda: 5.0)

    above = [process(30, ["sh"]), process(20, command), process(10, ["dvc", "queue", "start"])]
    monkeypatch.setattr(psutil.Process, "parents", lambda _: above)
    assert invocation()[0].split()[1:] == [("20" if is_dvc else "10"), "5.00"]


STAGE = """
import os, signal, sys, time
from mlflow import MlflowClient
from filelock import FileLock
import ddpm.run.tracking.record
from ddpm.run.tracking.outbox import tracking_uri

def delivered():
    with FileLock("mlflow.db.lock"):  # as the senders do, for whoever comes first makes the tables
        client = MlflowClient(tracking_uri())
    experiment = client.get_experiment_by_name("ddpm")
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    return [run for run in found if run.data.metrics.get("pid") == os.getpid() and run.info.status == "RUNNING"]

for stage in sys.argv[1:]:
    with ddpm.run.tracking.record.stage_run(stage, {}) as run:
        if stage == "killed":
            run.log_metrics({"pid": os.getpid()}, 0)
            while not delivered():
                time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGKILL)
"""
DVC = """
import subprocess, sys
sys.exit(subprocess.run([sys.executable, "stage.py", *sys.argv[1:]]).returncode != 0)
"""


def test_concurrent_pipelines_share_a_fresh_store(repository):
    """Logs of the second pipeline arrive while its stage runs, and its sender reports that the stage was killed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment["PYTHONPATH"] = str(Path(ddpm.__file__).parents[1])
    (repository / "mlflow.db").unlink()
    Path("stage.py").write_text(STAGE)
    Path("dvc").write_text(DVC)
    started = [
        subprocess.Popen([sys.executable, "dvc", *stages], env=environment, stderr=subprocess.PIPE, text=True)
        for stages in (["one", "two"], ["killed"])
    ]
    for process, status in zip(started, (0, 1), strict=True):
        errors = process.communicate()[1]
        assert process.returncode == status
        assert "warning" not in errors  # MLflow itself reports there that it makes tables
    deadline = time.monotonic() + 120  # for three imports of mlflow on a busy machine
    while waiting() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not waiting()
    parents, children = runs()
    pids = {parent.info.run_id: int(parent.data.tags["dvc.invocation"].split()[1]) for parent in parents}
    grouped = sorted((pids[parent_id(child)], child.info.run_name, child.info.status) for child in children)
    first, second = (process.pid for process in started)
    assert len(parents) == 2
    assert grouped == sorted([(first, "one", "FINISHED"), (first, "two", "FINISHED"), (second, "killed", "KILLED")])
    statuses = {pids[parent.info.run_id]: parent.info.status for parent in parents}
    assert statuses == {first: "FINISHED", second: "FAILED"}


def test_minutes_are_those_of_whole_experiments(monkeypatch):
    """Not of a stage, of a run at work, or of a run outside experiments, which the search leaves out."""
    name, parent = {"dvc.exp_name": "bold-name"}, {"mlflow.parentRunId": "1"}
    found = [
        Namespace(data=Namespace(tags=tags), info=Namespace(start_time=60_000, end_time=end))
        for tags, end in (
            (name, 60_000 + 90_000),
            (name | parent, 60_000 + 30_000),
            ({"dvc.exp_name": "at-work"}, None),
        )
    ]
    client = Mock(**{"search_experiments.return_value": [Mock(experiment_id="7")], "search_runs.return_value": found})
    monkeypatch.setattr("mlflow.MlflowClient", lambda _: client)
    assert minutes_of_experiments() == {"bold-name": 1.5}
    assert client.search_runs.call_args.args == (["7"], "tags.`dvc.exp_name` != ''")
