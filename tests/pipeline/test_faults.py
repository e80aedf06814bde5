"""Fault injection in real stages: each fault is survived or ends in one clear line, and earlier outputs are kept."""

import os
import re
import resource
import runpy
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from project import NOWHERE, TINY, copy_project, write_params
from runs import runs

from ddpm.data.dataset import ImageDataset, load_dataset, save_dataset
from ddpm.data.gradients import gradient_images
from ddpm.errors import UserError
from ddpm.figures import pictures
from ddpm.figures.canvas import save
from ddpm.run.resume.file import read_about
from ddpm.run.seeding import generator
from ddpm.run.tracking import delivery
from ddpm.run.tracking.outbox import OUTBOX

TRAIN, SAMPLE = ["stages/train.py", "train_tiny"], ["stages/sample.py", "sample_tiny"]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's use of SQLAlchemy


@contextmanager
def room_for(size):
    """No file may grow beyond `size` bytes: to a program, the disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def run(*script):
    """The exit status of a stage, run in this process for speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", list(script))
        try:
            runpy.run_path(script[0], run_name="__main__")
        except SystemExit as end:
            return end.code
    return 0


def contents(folder):
    """Every file of data, models, samples and reports with its bytes, hidden ones too."""
    kinds = ("data", "models", "samples", "reports")
    return {path: path.read_bytes() for kind in kinds for path in (folder / kind).rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, fashion_mnist_raw):
    """A project whose gradient stages have run."""
    folder = tmp_path_factory.mktemp("finished")
    copy_project(folder)
    shutil.rmtree(folder / ".git")
    path = {"path": str(fashion_mnist_raw)}
    write_params(folder, TINY | {"data": TINY["data"] | path, "checkpoint_seconds": 0})
    for split in ("train", "held_out"):
        images = gradient_images(500, (3, 4, 5), generator(0, split))
        save_dataset(folder / f"data/gradients/{split}.safetensors", ImageDataset(images))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DVC_ROOT", str(folder))
        patch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
        for script in (TRAIN, SAMPLE, ["stages/evaluate_tiny.py"]):
            assert run(*script) == 0
    shutil.rmtree(folder / OUTBOX)
    return folder


@pytest.fixture
def project(finished, tmp_path, monkeypatch):
    """A copy of it, as the working folder."""
    threads = torch.get_num_threads()
    folder = shutil.copytree(finished, tmp_path / "project")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_ROOT", str(folder))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    yield folder
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("script", "room", "named"),
    [
        (["stages/generate_gradients.py"], 5_000, r"data/gradients/\w+\.safetensors"),
        (TRAIN, 10_000, r"models/tiny\.safetensors"),
        (SAMPLE, 1_000, r"samples/tiny\.safetensors"),
        (["stages/evaluate_tiny.py"], 600, r"reports/evaluate_tiny/\w+\.(json|csv)"),
    ],
    ids=["data", "model", "sample", "report"],
)
def test_full_disk_is_reported_and_keeps_old_outputs(project, script, room, named, capfd):
    before = contents(project)
    with room_for(room):
        assert run(*script) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if "MLflow" not in line]
    assert re.search(rf"^\w+: {named}: cannot be written \(.*File too large.*\)", errors[-1])
    assert "Traceback" not in "".join(errors)
    after = contents(project)
    assert {path: after[path] for path in before} == before
    assert after.keys() == before.keys()


def test_full_disk_keeps_old_figure(tmp_path):
    images = torch.rand(4, 3, 4, 5, generator=generator(0, "figure"))
    figure = pictures.sample_grid(images, images, "from pure noise", "a network")
    (tmp_path / "figure.png").write_text("the old one")
    with room_for(1_000), pytest.raises(UserError, match=r"figure\.png: cannot be written \(File too large\)"):
        save(figure, tmp_path / "figure.png")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["the old one"]


def test_training_completes_when_state_cannot_be_saved(project, caplog):
    before = contents(project)
    room = (project / "models/tiny.safetensors").stat().st_size  # a state holds the weights four times
    (project / "models/tiny.safetensors").unlink()
    with room_for(room):
        assert run(*TRAIN) == 0
    assert "cannot be saved" in caplog.text
    assert contents(project) == before
    assert list((project / ".resume").iterdir()) == []


def test_divergence_keeps_old_outputs_and_last_good_state(project, capfd):
    path = project / "data/gradients/train.safetensors"
    images = load_dataset(path).images
    save_dataset(path, ImageDataset(torch.cat([images[:-1], torch.full_like(images[:1], torch.inf)])))
    write_params(project, {"checkpoint_seconds": 60})  # only the fault makes it write its state
    before = contents(project)
    assert run(*TRAIN) == 2
    where = r"the loss at step (\d+) of 8, batch \d of 4 in epoch [12], is \w+"
    pattern = rf"training diverged: {where}, with lr \S+ and (128|116) images; try a smaller lr"
    found = re.search(pattern, capfd.readouterr().err)
    assert found
    [state] = (project / ".resume").glob("*.safetensors")
    assert read_about(state)[1] == int(found[1]) - 1
    assert contents(project) == before


@pytest.mark.parametrize("fault", ["answers 500", "dies in mid-training"])
def test_mlflow_failure_does_not_change_outputs(project, fault, monkeypatch, capfd):
    before = contents(project)

    def dead(*_, **__):
        raise MlflowException("500" if fault == "answers 500" else "gone")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/mlflow.db")
    call = "get_experiment_by_name" if fault == "answers 500" else "log_artifact"
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, call, dead)
        assert run(*TRAIN) == 0
    assert capfd.readouterr().err.count("MLflow failed, so this stage is kept") == 1
    assert contents(project) == before
    assert delivery.send() == 0
    _, [stage] = runs()
    logged = {path.relative_to(project).as_posix() for path in before if "train_tiny" in path.parts}
    assert {f"output.{name}" for name in logged} <= stage.data.tags.keys()


def test_concurrent_repros_in_one_folder_are_safe(project, stage_environment):
    shutil.rmtree(project / "data/gradients")
    command = ["dvc", "repro", "--single-item", "generate_gradients"]
    subprocess.run(["git", "init", "-q"], check=True)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    environment = stage_environment | {"MLFLOW_TRACKING_URI": NOWHERE}
    subprocess.run(["dvc", "repro", "check"], env=environment, check=True, capture_output=True)
    pair = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
    endings = [(process.communicate(timeout=300)[0], process.returncode) for process in pair]
    for output, status in endings:
        assert "Traceback" not in output
        assert status == 0 or re.search("lock|busy|blocked", output), output
    assert 0 in [status for _, status in endings]
    done = subprocess.run(["dvc", "status", "generate_gradients"], env=environment, capture_output=True, text=True)
    assert "up to date" in done.stdout, done.stdout + done.stderr
    assert len(os.listdir(project / "data/gradients")) == 2
