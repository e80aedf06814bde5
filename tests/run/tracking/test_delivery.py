"""Logs that MLflow cannot accept are kept, and delivered later as if they had been sent at once."""

import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from runs import closed_port, content, parent_id, runs, under_dvc

import ddpm
from ddpm.run.tracking import delivery, outbox, store
from ddpm.run.tracking.outbox import is_running, tracking_uri, waiting
from ddpm.run.tracking.record import stage_run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's use of SQLAlchemy


def work():
    """A stage that logs one of everything, the same each time."""
    Path("weights.bin").write_bytes(b"weights")
    with stage_run("train_tiny", {"lr": 0.1, "tiny": {"n": 3}}) as run:
        run.log_input(Path("weights.bin"))
        for step in range(1, 150):
            run.log_metrics({"loss": 1 / step, "lr": 0.1}, step)
        run.log_image(torch.rand(1, 4, 5, generator=torch.Generator().manual_seed(0)), "preview", 7)
        run.log_artifact(Path("weights.bin"))


def broken_after(calls, monkeypatch):
    """Let MLflow process `calls` calls and one more, whose answer is lost."""
    left = [calls]

    def lossy(method):
        def call(*args, **kwargs):
            result = method(*args, **kwargs)
            left[0] -= 1
            if left[0] < 0:
                raise ConnectionError("the answer is lost")
            return result

        return call

    for name in ("create_run", "log_batch", "log_inputs", "log_artifact", "set_terminated", "search_runs"):
        monkeypatch.setattr(MlflowClient, name, lossy(getattr(MlflowClient, name)))


def test_interrupted_late_delivery_matches_direct_delivery(monkeypatch, capfd):
    """Each attempt breaks off one call later than the last, after MLflow has processed that call."""
    monkeypatch.setattr(store, "LINES", 100)
    work()
    assert waiting() == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", closed_port())
    before = outbox.now()
    work()
    after = outbox.now()
    assert "is kept in .mlflow-outbox" in capfd.readouterr().err
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    time.sleep(0.01)
    for calls in range(20):
        with monkeypatch.context() as patch:
            broken_after(calls, patch)
            if delivery.send() == 0:
                break
        assert "MLflow failed, so the rest is kept: the answer is lost" in capfd.readouterr().err
    assert calls > 3
    assert waiting() == []
    assert delivery.send() == 0
    assert "nothing to send" in capfd.readouterr().out
    parents, (direct, late) = runs()
    assert len(parents) == 2
    assert content(late) == content(direct)
    assert len(content(late)["metrics"]["loss"]) == 149
    info = late.info
    assert before <= info.start_time <= info.end_time <= after
    [metric, *_] = MlflowClient(tracking_uri()).get_metric_history(info.run_id, "loss")
    assert info.start_time <= metric.timestamp <= info.end_time
    [parent] = [parent for parent in parents if parent.info.run_id == parent_id(late)]
    assert (parent.info.status, parent.info.end_time) == ("FINISHED", info.end_time)


def test_late_stages_join_parent_of_delivered_ones(monkeypatch):
    under_dvc(monkeypatch, "host 10 1.00")
    uri = tracking_uri()
    for stage, store_uri in (("one", uri), ("two", closed_port()), ("three", uri)):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)
        with stage_run(stage, {}):
            pass
    [parent], children = runs(uri)
    assert [child.info.run_name for child in children] == ["one", "three"]
    assert parent.info.status == "FINISHED"
    assert delivery.send() == 0
    [parent], children = runs(uri)
    assert [child.info.run_name for child in children] == ["one", "two", "three"]
    assert {parent_id(child) for child in children} == {parent.info.run_id}
    assert parent.info.end_time == children[-1].info.end_time
    assert parent.info.start_time <= children[0].info.start_time


KILLED = """
import os, signal
from ddpm.run.tracking.record import stage_run
with stage_run("train_tiny", {"lr": 1}) as run:
    run.log_metrics({"loss": 2.0}, 1)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_send_marks_killed_stages_and_skips_running_ones(capfd):
    environment = {**os.environ, "MLFLOW_TRACKING_URI": closed_port()}
    environment["PYTHONPATH"] = str(Path(ddpm.__file__).parents[1])
    subprocess.run([sys.executable, "-c", KILLED], env=environment, check=False)
    [killed] = waiting()
    with (killed / outbox.JOURNAL).open("a") as journal:
        journal.write('{"time": 1, "metrics": {"lo')  # as left by a process that dies in mid-line
    with stage_run("sample", {}):
        [running] = filter(is_running, waiting())
        assert delivery.send() == 0
        assert "still running, not sent: 1" in capfd.readouterr().out
        assert waiting() == [running]
    [killed, running] = runs()[1]
    assert (killed.info.status, killed.data.metrics) == ("KILLED", {"loss": 2.0})
    assert killed.info.end_time >= killed.info.start_time
    assert running.info.status == "FINISHED"
    assert [parent.info.status for parent in runs()[0]] == ["FAILED", "FINISHED"]


def test_concurrent_deliveries_create_one_run(monkeypatch):
    uri = tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", closed_port())
    work()
    [folder] = waiting()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    def deliver():
        store.Store(delivery.PATIENT).deliver(folder, over=True)

    pair = [threading.Thread(target=deliver) for _ in range(2)]
    for thread in pair:
        thread.start()
    for thread in pair:
        thread.join()
    [_], [child] = runs()
    assert len(content(child)["metrics"]["loss"]) == 149


def test_rejected_metrics_do_not_block_the_rest(capfd):
    with stage_run("train_tiny", {}) as run:
        run.log_metrics({"loss": 1.0}, 1)
        run.log_metrics({"not a name!": 2.0}, 1)
        run.log_metrics({"loss": 3.0}, 2)
    _, [child] = runs()
    assert child.data.metrics == {"loss": 3.0}
    assert child.info.status == "FINISHED"
    assert "warning: MLflow rejected a part of this stage" in capfd.readouterr().err


def test_damaged_journal_lines_are_reported(monkeypatch, capfd):
    uri = tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", closed_port())
    for _ in range(2):
        with stage_run("train_tiny", {}) as run:
            run.log_metrics({"loss": 1.0}, 1)
            run.log_metrics({"loss": 2.0}, 2)
    first, second = (folder / outbox.JOURNAL for folder in waiting())
    first.write_bytes(first.read_bytes().replace(b"{", b"\xff", 1))
    second.write_bytes(second.read_bytes().replace(b'"loss": 1.0', b'"loss\xff: 1.0'))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    capfd.readouterr()
    assert delivery.send() == 1
    errors = capfd.readouterr().err
    assert f"{first}: its first line is damaged" in errors
    assert f"a damaged line in {second}" in errors
    assert [folder / outbox.JOURNAL for folder in waiting()] == [first]
    _, [child] = runs()
    assert child.data.metrics == {"loss": 2.0}


def test_recreated_store_receives_run_from_start():
    with stage_run("train_tiny", {}) as run:
        run.log_metrics({"loss": 1.0}, 1)
        [folder] = waiting()
        sender = store.Store(delivery.HURRIED)
        sender.deliver(folder, over=False)
        [child] = runs()[1]
        assert child.data.metrics == {"loss": 1.0}
        sender._progress[folder].run = "0" * 32  # unknown to a new store
        MlflowClient(tracking_uri()).delete_run(child.info.run_id)
        run.log_metrics({"loss": 2.0}, 2)
        with pytest.raises(MlflowException, match="not found"):
            sender.deliver(folder, over=False)
        sender.deliver(folder, over=False)
    [child] = runs()[1]
    assert len(MlflowClient(tracking_uri()).get_metric_history(child.info.run_id, "loss")) == 2


def test_full_disk_warns_and_loses_only_what_does_not_fit(capfd):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with stage_run("train_tiny", {}) as run:
        [folder] = waiting()
        resource.setrlimit(resource.RLIMIT_FSIZE, ((folder / outbox.JOURNAL).stat().st_size + 100, hard))
        for step in range(3):
            run.log_metrics({"loss": 1.0}, step)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        run.log_metrics({"loss": 4.0}, 4)
    [warning] = capfd.readouterr().err.splitlines()
    assert warning.startswith("warning: a part of this stage could not be logged: ")
    assert "No space left on device" in warning
    _, [child] = runs()
    history = MlflowClient(tracking_uri()).get_metric_history(child.info.run_id, "loss")
    assert [metric.step for metric in history] == [0, 4]
    assert child.info.status == "FINISHED"
