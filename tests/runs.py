"""Helpers for tracking tests: queries to an MLflow store, and imitating dvc."""

import hashlib
import socket
import subprocess
from pathlib import Path

from mlflow import MlflowClient

from ddpm.run.invocation import Invocation
from ddpm.run.tracking import record
from ddpm.run.tracking.outbox import now, tracking_uri


def under_dvc(monkeypatch, key):
    invocation = Invocation(key, "dvc repro", now())
    monkeypatch.setattr(record, "invocation", lambda: invocation)


def runs(uri=None):
    """(parents, children) in the store, oldest first."""
    client = MlflowClient(uri or tracking_uri())
    found = client.search_runs([client.get_experiment_by_name("ddpm").experiment_id], order_by=["start_time ASC"])
    children = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    return [run for run in found if run not in children], children


def parent_id(child):
    return child.data.tags["mlflow.parentRunId"]


def content(run):
    """Everything a run holds, except ids and times."""
    client = MlflowClient(tracking_uri())
    folders, files = [""], {}
    while folders:
        for entry in client.list_artifacts(run.info.run_id, folders.pop() or None):
            if entry.is_dir:
                folders.append(entry.path)
                continue
            digest = hashlib.md5(Path(client.download_artifacts(run.info.run_id, entry.path)).read_bytes())
            files["+".join(entry.path.split("+")[:3]) + Path(entry.path).suffix] = digest.hexdigest()
    histories = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
    [dataset] = run.inputs.dataset_inputs
    return {
        "status": run.info.status,
        "params": run.data.params,
        "metrics": {key: sorted((m.step, m.value) for m in history) for key, history in histories.items()},
        "tags": {k: v for k, v in run.data.tags.items() if k not in ("ddpm.journal", "mlflow.parentRunId")},
        "input": (dataset.dataset.name, dataset.dataset.digest),
        "artifacts": files,
    }


def git(*arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
