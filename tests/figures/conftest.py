"""Made-up outputs of all stages, in the working folder."""

import runpy
import shutil
from pathlib import Path

import pytest
from figures.made_up import write_outputs
from project import REPO

from ddpm.run.stage import Stage


@pytest.fixture(scope="session")
def made_up(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made_up")
    write_outputs(folder)
    return folder


@pytest.fixture(scope="session")
def stages() -> dict[str, Stage]:
    """The stages render_TOPIC."""
    return runpy.run_path(str(REPO / "stages/render.py"))["STAGES"]


@pytest.fixture
def outputs(made_up, monkeypatch) -> Path:
    """Made-up outputs in the working folder, which tests must not change."""
    monkeypatch.chdir(made_up)
    return made_up


@pytest.fixture
def copied(made_up, tmp_path, monkeypatch) -> Path:
    """Made-up outputs in the working folder, which a test may change."""
    shutil.copytree(made_up, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path
