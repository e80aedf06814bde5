"""What the tests of tracking ask of an MLflow store, and how they pose as dvc."""

import socket
import subprocess

from mlflow import MlflowClient

from ddpm import tracking
from ddpm.outbox import now, tracking_uri


def under_dvc(monkeypatch, key):
    invocation = tracking.Invocation(key, "dvc repro", now())
    monkeypatch.setattr(tracking, "invocation", lambda: invocation)


def runs(uri=None):
    """(parents, children) in the store, oldest first."""
    client = MlflowClient(uri or tracking_uri())
    found = client.search_runs([client.get_experiment_by_name("ddpm").experiment_id], order_by=["start_time ASC"])
    children = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    return [run for run in found if run not in children], children


def parent_id(child):
    return child.data.tags["mlflow.parentRunId"]


def git(*arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
