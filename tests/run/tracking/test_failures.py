"""A failure of MLflow never fails the stage."""

import os
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from project import REPO
from runs import closed_port, runs, under_dvc

from ddpm.run.tracking.delivery import send
from ddpm.run.tracking.outbox import read, tracking_uri, waiting
from ddpm.run.tracking.record import stage_run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's use of SQLAlchemy


def test_failed_stage_and_its_parent_stay_failed(monkeypatch):
    under_dvc(monkeypatch, "host 10 1.00")

    def stopped():
        with stage_run("train_tiny", {}) as run:
            run.log_metrics({"loss": 1.0}, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    with stage_run("train_unet", {}):  # what `dvc repro --keep-going` still runs
        pass
    [parent], children = runs()
    assert parent.info.status == "FAILED"
    assert [child.info.status for child in children] == ["FAILED", "FINISHED"]
    assert children[0].data.metrics == {"loss": 1.0}


@pytest.mark.parametrize("store", ["no server", "silent server", "not a database", "a folder", "unknown scheme"])
def test_unavailable_store_gives_one_warning_and_keeps_logs(store, tmp_path, monkeypatch, capfd):
    (tmp_path / "bad.db").write_bytes(b"not a database" * 100)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        uris = {
            "no server": closed_port(),
            "silent server": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "not a database": f"sqlite:///{tmp_path / 'bad.db'}",
            "a folder": f"sqlite:///{tmp_path}",
            "unknown scheme": "nowhere://at/all",
        }
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uris[store])
        started = time.monotonic()
        with stage_run("train_tiny", {"lr": 1}) as run:
            for step in range(2000):
                run.log_metrics({"loss": 1.0}, step)
        took = time.monotonic() - started
    assert took < 10  # twice the 3 s timeout, and room for a busy machine
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("warning: MLflow failed, so this stage is kept")
    [folder] = waiting()
    assert len(read(folder, 0, 9999)) == 2003  # the run, its parent's params, its metrics and its end


def test_unavailable_store_does_not_hide_stage_error(monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", closed_port())
    with pytest.raises(ValueError, match="mine"), stage_run("train_tiny", {}):
        raise ValueError("mine")
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [([], 1, "must be ui or send"), (["send"], 0, "nothing to send\n"), (["sned"], 1, "the command is 'sned'")],
)
def test_cli_requires_a_known_command(words, status, said):
    command = [sys.executable, "-m", "ddpm.run.tracking", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert said in done.stdout + done.stderr


STAGE = """
import sys
from pathlib import Path
from ddpm.run.tracking.record import stage_run
with stage_run(sys.argv[1], {}) as run:
    run.log_metrics({"loss": 1.0}, 1)
    Path("note").write_text(sys.argv[1])
    run.log_artifact(Path("note"))
"""


def errors_of_a_stage(name):
    """In its own process, with its own sender, which has not seen the store before."""
    environment = os.environ | {"PYTHONPATH": str(REPO / "src")}
    command = [sys.executable, "-c", STAGE, name]
    errors = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr
    return "".join(line for line in errors.splitlines() if "warning" in line)


@contextmanager
def deleted_experiment(client):
    experiment_id = client.get_experiment_by_name("ddpm").experiment_id
    client.delete_experiment(experiment_id)
    yield
    client.restore_experiment(experiment_id)


@contextmanager
def schema(version):
    with closing(sqlite3.connect("mlflow.db")) as connection:
        [(own,)] = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        for each in (version, own):
            with connection:
                connection.execute("UPDATE alembic_version SET version_num = ?", (each,))
            if each != own:
                yield


def older_schema(_):
    return schema("cc1f77228345")


def newer_schema(_):
    return schema("ffffffffffff")  # unknown to this version


@contextmanager
def read_only_database(_):
    Path("mlflow.db").chmod(0o400)
    yield
    Path("mlflow.db").chmod(0o600)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (deleted_experiment, "mlflow experiments restore --experiment-id"),
        (older_schema, "mlflow db upgrade"),
        (newer_schema, "found version ffffffffffff"),
        (read_only_database, "readonly"),
    ],
)
def test_unwritable_store_suggests_remedy_and_loses_nothing(harm, said):
    if harm is read_only_database and os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    client = MlflowClient(tracking_uri())
    with stage_run("first", {}):
        pass
    with harm(client):
        assert said in errors_of_a_stage("second")
    assert send() == 0
    _, children = runs()
    assert [run.info.run_name for run in children] == ["first", "second"]
    assert children[1].data.metrics == {"loss": 1.0}


@pytest.mark.parametrize("lost", ["mlartifacts", "mlflow.db"])
def test_store_works_after_losing_database_or_artifacts(lost):
    errors_of_a_stage("first")
    Path(lost).rename("elsewhere")
    errors_of_a_stage("second")
    assert waiting() == []
    _, children = runs()
    assert "second" in [run.info.run_name for run in children]
    client = MlflowClient(tracking_uri())
    assert client.download_artifacts(children[-1].info.run_id, "note")
