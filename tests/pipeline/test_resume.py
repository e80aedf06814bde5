"""The real stage train_tiny, stopped in every way and resumed, gives the files of an uninterrupted run."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from project import NOWHERE, TINY, copy_project, write_params

from ddpm.data.dataset import ImageDataset, save_dataset
from ddpm.data.gradients import gradient_images
from ddpm.errors import UserError
from ddpm.run.resume.file import read_about
from ddpm.run.seeding import generator

STAGE = ("python", "stages/train.py", "train_tiny")
OUTPUTS = ("models/tiny.safetensors", "models/tiny_previews.safetensors")
REPORTS = ("metrics.json", "loss.csv", "eval_loss.csv", "loss_by_timestep.csv")
# Starts a stage, as dvc does, and ignores how it ends.
DVC = "import subprocess, sys; subprocess.run(sys.argv[1:])"
# Starts it, and ends while it still imports.
HASTY_DVC = "import os, subprocess, sys; subprocess.Popen(sys.argv[1:]); os._exit(1)"


@pytest.fixture
def folders(tmp_path):
    """Two copies of the project with the same data, of which one saves its training state after every step."""
    made = [tmp_path / name for name in ("undisturbed", "tormented")]
    for folder in made:
        folder.mkdir()
        copy_project(folder)
        for split in ("train", "held_out"):
            images = gradient_images(500, (3, 4, 5), generator(0, split))
            save_dataset(folder / f"data/gradients/{split}.safetensors", ImageDataset(images))
        seconds = 0 if folder.name == "tormented" else 60
        more = {"epochs": 20, "batch_size": 16, "img_log_interval": 100}
        write_params(folder, TINY | {"train_tiny": TINY["train_tiny"] | more, "checkpoint_seconds": seconds})
    (made[1] / "dvc").write_text(DVC)
    return made


def steps_kept(folder):
    """Steps in the state on disk, or 0 if there is none."""
    for path in (folder / ".resume").glob("train_tiny-*.safetensors"):
        try:
            return read_about(path)[1]
        except UserError:  # gone in the meantime
            return 0
    return 0


def wait_for(condition, process):
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_stopped_and_resumed_training_matches_uninterrupted(folders, stage_environment):
    undisturbed, tormented = folders
    environment = stage_environment | {"PYTHONPATH": "src", "MLFLOW_TRACKING_URI": NOWHERE}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}

    def start(folder, *command):
        return subprocess.Popen(command, cwd=folder, env=environment, **pipes)

    def stop(number, *command):
        """Signal the process after some more steps, and return (exit status, output)."""
        before = steps_kept(tormented)
        process = start(tormented, *command)
        wait_for(lambda: steps_kept(tormented) > before + 20, process)
        process.send_signal(number)
        output, _ = process.communicate(timeout=300)  # ends once all holders of the pipe have, even orphans
        assert not (tormented / "reports/train_tiny/metrics.json").exists()
        return process.returncode, output

    reference = start(undisturbed, *STAGE)
    status, output = stop(signal.SIGKILL, sys.executable, "dvc", *STAGE)
    assert status == -signal.SIGKILL
    assert "stopped (Hangup) after step" in output
    after = steps_kept(tormented)

    status, output = stop(signal.SIGTERM, *STAGE)
    assert status == 128 + signal.SIGTERM
    assert f"train_tiny: resumes after step {after}\n" in output
    after = steps_kept(tormented)
    assert f"stopped (Terminated) after step {after}\n" in output

    status, output = stop(signal.SIGKILL, *STAGE)
    assert status == -signal.SIGKILL
    assert f"train_tiny: resumes after step {after}\n" in output
    after = steps_kept(tormented)

    last = start(tormented, *STAGE)
    for process in (last, reference):
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        assert "Traceback" not in output
    for name in (*OUTPUTS, *(f"reports/train_tiny/{name}" for name in REPORTS)):
        assert (tormented / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert os.listdir(tormented / ".resume") == []
    shutil.rmtree(tormented)


def test_training_does_not_start_if_dvc_has_ended(folders, stage_environment):
    _, folder = folders
    (folder / "dvc").write_text(HASTY_DVC)
    (folder / "program.py").write_text(DVC)  # as one with `import dvc`: no process is called dvc, and none is gone
    environment = stage_environment | {"PYTHONPATH": "src", "MLFLOW_TRACKING_URI": NOWHERE, "DVC_STAGE": "train_tiny"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    for starter, message in (("dvc", "the dvc that started it has ended"), ("program.py", "")):
        command = [sys.executable, starter, "sh", "-c", " ".join(STAGE)]
        output = subprocess.run(command, cwd=folder, env=environment, check=False, timeout=300, **pipes).stdout
        assert message in output
        assert (folder / "models/tiny.safetensors").exists() == (not message)
        assert list((folder / ".resume").glob("*")) == []
