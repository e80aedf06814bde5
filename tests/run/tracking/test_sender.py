"""The sender shared by the stages of one dvc command, with real processes and an SQLite store."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from socket import AF_UNIX, socket
from tempfile import TemporaryDirectory

import psutil
import pytest
from mlflow import MlflowClient
from runs import runs

import ddpm
from ddpm.run.tracking import sender
from ddpm.run.tracking.outbox import tracking_uri, waiting
from ddpm.run.tracking.store import Progress, Store

STAGE = """
import sys
from ddpm.run.tracking.record import stage_run
for stage in sys.argv[1:]:
    with stage_run(stage, {}) as run:
        run.log_metrics({"loss": 1.0}, 0)
        if stage.startswith("waits"):
            print("waits", flush=True)
            sys.stdin.readline()
"""
DVC = """
import subprocess, sys
for stage in sys.argv[1:]:
    subprocess.run([sys.executable, "stage.py", stage], check=True)
"""


@pytest.fixture
def temporary():
    """A folder with a short path, as sockets need."""
    with TemporaryDirectory(dir="/tmp") as folder:
        yield folder


@pytest.fixture
def start(repository, monkeypatch, temporary):
    """Start `dvc` or `stage.py` with stages that include `waits...`, and return the process once one waits."""
    (repository / "stage.py").write_text(STAGE)
    (repository / "dvc").write_text(DVC)
    monkeypatch.setenv("PYTHONPATH", str(Path(ddpm.__file__).parents[1]))
    monkeypatch.setenv("TMPDIR", temporary)

    def start(script, *stages):
        pipe = subprocess.PIPE
        process = subprocess.Popen([sys.executable, script, *stages], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert process.stdout.readline() == "waits\n"
        return process

    return start


def senders():
    found = psutil.process_iter(["cmdline", "cwd"])
    return [
        process for process in found if process.info["cwd"] == str(Path.cwd()) and is_sender(process.info["cmdline"])
    ]


def is_sender(command):
    return "ddpm.run.tracking.delivery" in (command or ())


def end(process):
    _, errors = process.communicate("\n", timeout=120)
    assert process.returncode == 0, errors
    deadline = time.monotonic() + 30
    while senders():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert list(Path(os.environ["TMPDIR"]).glob("*/*")) == []
    return errors


@pytest.mark.parametrize("script", ["dvc", "stage.py"])
def test_stages_of_one_command_share_a_sender(start, script):
    process = start(script, "one", "waits")
    [first] = senders()
    assert first.nice() == min(psutil.Process().nice() + 10, 19)
    assert end(process) == ""
    _, children = runs()
    assert {(run.info.run_name, run.info.status) for run in children} == {
        ("one", "FINISHED"),
        ("waits", "FINISHED"),
    }


def test_killed_sender_is_replaced(start):
    process = start("dvc", "waits", "two")
    [first] = senders()
    first.send_signal(signal.SIGKILL)
    errors = end(process)
    assert errors.count("MLflow failed, so this stage is kept") == 1
    assert "its sender has ended" in errors
    _, children = runs()  # the next sender delivers what the first left
    assert {run.info.status for run in children} == {"FINISHED"}
    assert len(children) == 2
    assert waiting() == []


@pytest.mark.parametrize("reads", [True, False], ids=["has read all", "has read nothing, which breaks the line"])
def test_finish_reports_sender_that_has_ended(reads, monkeypatch, temporary, repository):
    address = Path(temporary) / "socket"
    monkeypatch.setattr(sender, "_address", lambda _: address)
    with socket(AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()
        mine = sender.Sender(repository / "a journal")
        theirs, _ = listener.accept()
        with theirs:
            if reads:
                theirs.recv(1000)
        assert mine.finish() == (False, "its sender has ended")


def loads():
    """How often CPU utilization was logged, by stage name."""
    client = MlflowClient(tracking_uri())
    key = "system/cpu_utilization_percentage"
    if not client.get_experiment_by_name("ddpm"):
        return {}
    return {run.info.run_name: len(client.get_metric_history(run.info.run_id, key)) for run in runs()[1]}


def await_loads(stage):
    deadline = time.monotonic() + 60
    while loads().get(stage, 0) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_system_metrics_are_logged_only_while_stage_runs(start, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    process = start("dvc", "waits", "waits again")
    before = senders()
    await_loads("waits")
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "waits\n"
    found = loads()["waits"]
    await_loads("waits again")
    assert senders() == before
    assert loads()["waits"] == found
    end(process)


def test_mlflow_variable_disables_system_metrics(repository, monkeypatch):
    store = Store(3)
    folder = repository / "a journal"
    store._progress[folder] = Progress(store._client.create_run(store._experiment).info.run_id, "")
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    assert store.monitor(folder) is None


def test_sender_rejects_folder_of_another_user(monkeypatch, repository, temporary):
    monkeypatch.setattr(sender.os, "getuid", lambda: 12345)
    monkeypatch.setattr(sender, "gettempdir", lambda: temporary)
    with pytest.raises(PermissionError, match="belongs to another user"):
        sender.Sender(repository)


def test_socket_path_is_short_with_long_temporary_folder(monkeypatch):
    monkeypatch.setattr(sender, "gettempdir", lambda: f"/tmp/{'x' * 100}")
    assert len(str(sender._address(psutil.Process()))) < 104
