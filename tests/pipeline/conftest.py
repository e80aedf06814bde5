"""One run of the whole pipeline, shared by several test files."""

import os
import shutil
from pathlib import Path

import pytest
from clone import Clone, write_images
from filelock import FileLock


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """A folder that all processes of this test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def images(shared, fashion_mnist_raw) -> Path:
    """A data set of a few images."""
    with FileLock(shared / "images.lock"):
        if not (shared / "images.npz").exists():
            write_images(shared / "images.npz", fashion_mnist_raw)
    return shared / "images.npz"


@pytest.fixture(scope="session")
def repro(shared, images, stage_environment) -> Path:
    """A folder with equal clones `one`, `copy` and `shared` after `dvc repro`, and its `output`.

    It runs once, in whichever process is first. Each clone is for one file of tests.
    """
    folder = shared / "repro"
    with FileLock(shared / "repro.lock"):
        if not (folder / "output").exists():
            folder.mkdir()
            output = Clone(folder / "one", stage_environment, images).run("dvc", "repro")
            for name in ("copy", "shared"):
                shutil.copytree(folder / "one", folder / name, symlinks=True)
            (folder / "output").write_text(output)
    return folder
