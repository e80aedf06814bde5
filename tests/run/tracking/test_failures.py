"""A failure of MLflow is never the stage's."""

import socket
import subprocess
import sys
import time

import pytest
from runs import closed_port, runs, under_dvc

from ddpm.run.tracking.outbox import read, waiting
from ddpm.run.tracking.record import stage_run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's use of SQLAlchemy


def test_a_failed_stage_is_failed_in_mlflow_and_stays_so(monkeypatch):
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
def test_without_a_store_the_work_goes_on_after_one_warning(store, tmp_path, monkeypatch, capfd):
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
            worked = True
        took = time.monotonic() - started
    assert worked
    assert took < 10  # twice the 3 s timeout, and room for a busy machine
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("warning: MLflow fails, so this stage is kept")
    [folder] = waiting()
    assert len(read(folder, 0, 9999)) == 2002  # the run, its metrics and its end


def test_the_stages_own_error_survives_a_dead_store(monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", closed_port())
    with pytest.raises(ValueError, match="mine"), stage_run("train_tiny", {}):
        raise ValueError("mine")
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [([], 0, "sqlite:///{}/mlflow.db\n"), (["send"], 0, "nothing to send\n"), (["sned"], 1, "the command is sned")],
)
def test_the_command_line(words, status, said, repository):
    command = [sys.executable, "-m", "ddpm.run.tracking", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert said.format(repository) in done.stdout + done.stderr
