"""Where MLflow runs go, and how they are grouped."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest
from mlflow import MlflowClient
from runs import parent_id, runs, under_dvc

import ddpm
from ddpm.tracking import invocation, repo_root, stage_run, tracking_uri

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's use of SQLAlchemy


def test_root_is_dvc_root_then_nearest_dvc_folder_then_working_folder(repository, tmp_path, monkeypatch):
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
def test_uri_honours_the_environment(given, expected, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", "/main")
    if given is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert tracking_uri() == expected


def test_an_experiments_copy_leaves_everything_in_the_main_repository(repository, monkeypatch):
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


def test_stages_of_one_dvc_share_a_parent_and_two_dvcs_do_not(monkeypatch):
    under_dvc(monkeypatch, "host 10 1.00")
    for stage in ("generate_gradients", "train_tiny"):
        with stage_run(stage, {}):
            assert [parent.info.status for parent in runs()[0]] == ["RUNNING"]
        assert [parent.info.status for parent in runs()[0]] == ["FINISHED"]
    under_dvc(monkeypatch, "host 10 2.00")  # the same process id, used again later
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
def test_a_pipeline_run_is_known_by_the_nearest_dvc_above(command, is_dvc, monkeypatch):
    def process(pid, argv):
        return Mock(psutil.Process, pid=pid, cmdline=lambda: argv, create_time=lambda: 5.0)

    above = [process(30, ["sh"]), process(20, command), process(10, ["dvc", "queue", "start"])]
    monkeypatch.setattr(psutil.Process, "parents", lambda _: above)
    assert invocation()[0].split()[1:] == [("20" if is_dvc else "10"), "5.00"]


STAGE = """
import os, sys
import ddpm.tracking
assert "mlflow" not in sys.modules, "importing ddpm.tracking must stay cheap"

class Importing:
    def find_spec(name, *_):
        assert name != "mlflow" or os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"

sys.meta_path.insert(0, Importing)
for stage in sys.argv[1:]:
    with ddpm.tracking.stage_run(stage, {}):
        assert "mlflow" in sys.modules
"""
DVC = """
import subprocess, sys
subprocess.run([sys.executable, "stage.py", *sys.argv[1:]], check=True)
"""


def test_real_processes_started_at_once_on_a_fresh_store(repository):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment["PYTHONPATH"] = str(Path(ddpm.__file__).parents[1])
    (repository / "mlflow.db").unlink()
    Path("stage.py").write_text(STAGE)
    Path("dvc").write_text(DVC)
    started = [
        subprocess.Popen([sys.executable, "dvc", *stages], env=environment, stderr=subprocess.PIPE, text=True)
        for stages in (["one", "two"], ["one"])
    ]
    for process in started:
        errors = process.communicate()[1]
        assert process.returncode == 0, errors
        assert "warning" not in errors
    parents, children = runs()
    pids = {parent.info.run_id: int(parent.data.tags["dvc.invocation"].split()[1]) for parent in parents}
    grouped = sorted((pids[parent_id(child)], child.info.run_name) for child in children)
    assert len(parents) == 2
    assert grouped == sorted([(started[0].pid, "one"), (started[0].pid, "two"), (started[1].pid, "one")])
