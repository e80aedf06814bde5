"""Made-up outputs of all stages, in the working folder."""

import runpy
import shutil
from pathlib import Path

import numpy
import pytest
from figures.made_up import stage_run, write_outputs
from matplotlib.figure import Figure
from project import REPO

from ddpm.figures.canvas import DPI, save
from ddpm.figures.topic import TOPICS
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


@pytest.fixture(scope="session")
def with_figures(made_up, tmp_path_factory) -> Path:
    """Made-up outputs of all other stages, including figures with captions but few pixels."""
    folder = tmp_path_factory.mktemp("with_figures")
    shutil.copytree(made_up, folder, dirs_exist_ok=True)
    draw = numpy.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, topic in TOPICS.items():
            inputs = topic.load(stage_run(f"render_{name}"))
            for entry in topic.figures.values():
                figure = Figure(figsize=(8 / DPI, 6 / DPI), dpi=DPI)
                figure.figimage(draw.integers(256, size=(6, 8, 3), dtype=numpy.uint8))
                save(figure, entry.path, entry.caption.format(inputs=inputs), entry.alt.format(inputs=inputs))
    return folder


@pytest.fixture
def page_inputs(with_figures, tmp_path, monkeypatch) -> Path:
    """A copy in the working folder, which tests may change."""
    shutil.copytree(with_figures, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path
