"""Every test here works in an empty repository of its own."""

import os
import shutil

import pytest
from mlflow import MlflowClient


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """An SQLite file with MLflow's tables and no experiment of ours: making them takes seconds, copying none."""
    path = tmp_path_factory.mktemp("tables") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True)
def repository(tmp_path, monkeypatch, tables):
    """An empty repository with a fresh store, as the working folder, outside any pipeline."""
    for name in (*filter(lambda name: name.startswith("DVC_"), os.environ), "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "a repository"
    (root / ".dvc").mkdir(parents=True)
    shutil.copy(tables, root / "mlflow.db")
    monkeypatch.chdir(root)
    return root
