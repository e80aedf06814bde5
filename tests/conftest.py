"""Shared fixtures: the real data, fetched once a session, and the environment of stages."""

import os
import sys
from contextlib import chdir
from pathlib import Path

import pytest
import torch
from project import REPO

LONGEST = "test_pipeline.py", "test_layout.py"  # these start first, so that no process waits for another at the end


def pytest_configure():
    """One thread for each of the two test processes (pyproject.toml), so that neither waits."""
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def fashion_mnist_raw() -> Path:
    """A folder with the four files of FashionMNIST, downloaded if missing."""
    from ddpm.data.dataset import DATASETS

    with chdir(REPO):
        DATASETS["fashion_mnist"].load(None)
    return REPO / ".data/fashion_mnist"


class SenderInProcess:
    """Replaces `record.Sender`: delivers at the stage's end, and imports MLflow once for all tests."""

    def __init__(self, folder):
        self.folder = folder

    def finish(self):
        from ddpm.run.tracking.delivery import HURRIED
        from ddpm.run.tracking.outbox import reason
        from ddpm.run.tracking.store import Store

        try:
            store = Store(HURRIED)
            store.deliver(self.folder, over=True)
        except Exception as error:
            return False, reason(error)
        return True, "; ".join(store.refused)


@pytest.fixture(scope="session", autouse=True)
def sender_in_process():
    """Replace the sender of stages run in the test process. Stages started as processes have the real one."""
    from ddpm.run.tracking import record as tracking

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "Sender", SenderInProcess)
        yield


@pytest.fixture(scope="session")
def stage_environment() -> dict[str, str]:
    """The environment of the activated .venv, without DVC, MLflow and Python variables."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_", "PYTHON"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}
