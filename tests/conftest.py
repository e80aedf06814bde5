"""What several tests need: the real data, fetched once a session, and the environment that stages run in."""

import os
import sys
from contextlib import chdir
from pathlib import Path

import pytest
import torch
from project import REPO

LONGEST = ("test_pipeline.py", "test_dvc_deps.py")  # start first, so that no process has to wait for the other


def pytest_configure():
    """Two processes test at once (pyproject.toml), with a thread each, for threads of two would wait for each other."""
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def fashion_mnist_raw() -> Path:
    """A folder with the four files of FashionMNIST, which are downloaded unless they are there."""
    from ddpm.data.dataset import DATASETS

    with chdir(REPO):
        DATASETS["fashion_mnist"].load(None)
    return REPO / ".data/fashion_mnist"


class SenderInProcess:
    """Stands in for `ddpm.run.tracking.record.Sender`: delivers at the stage's end, and MLflow is imported once for all tests."""

    def __init__(self, folder):
        self.folder = folder

    def finish(self):
        from ddpm.run.tracking import delivery

        try:
            store = delivery.Store(delivery.HURRIED)
            while store.step(self.folder, over=True):
                pass
        except Exception as error:
            return False, delivery.reason(error)
        return True, "; ".join(store.refused)


@pytest.fixture(scope="session", autouse=True)
def sender_in_process():
    """In the tests' own process; stages that they start as processes have the real one."""
    from ddpm.run.tracking import record as tracking

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "Sender", SenderInProcess)
        yield


@pytest.fixture(scope="session")
def stage_environment() -> dict[str, str]:
    """The environment of the activated .venv, without what the surroundings say about DVC and MLflow."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_", "PYTHON"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}
