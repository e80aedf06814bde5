"""A stage as a user starts it: any number of processes, killed or not, writes the same bytes."""

import os
import subprocess
import sys
import time

import psutil
import pytest
from project import NOWHERE, REPO, TINY, write_params

from ddpm.data.dataset import ImageDataset, save_dataset
from ddpm.data.gradients import gradient_images
from ddpm.run.seeding import generator


@pytest.fixture
def folder(tmp_path):
    """A project with gradients to train on."""
    (tmp_path / "params.yaml").write_text((REPO / "params.yaml").read_text())
    write_params(tmp_path, TINY | {"checkpoint_seconds": 0})
    write_params(tmp_path, {"train_tiny": {"micro_batches": 8, "epochs": 10}})
    (tmp_path / ".dvc").mkdir()
    for name in ("src", "stages"):
        (tmp_path / name).symlink_to(REPO / name)
    for split, n in (("train", 2000), ("held_out", 300)):
        dataset = ImageDataset(gradient_images(n, (3, 4, 5), generator(0, split)))
        save_dataset(tmp_path / f"data/gradients/{split}.safetensors", dataset)
    return tmp_path


def start(folder, processes):
    write_params(folder, {"processes": processes})
    environment = os.environ | {"PYTHONPATH": "src", "MLFLOW_TRACKING_URI": NOWHERE}
    command = [sys.executable, "stages/train.py", "train_tiny"]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def outputs(folder):
    paths = [*folder.glob("models/*"), *folder.glob("reports/train_tiny/*")]
    return {path.relative_to(folder): path.read_bytes() for path in paths}


def test_resume_with_fewer_processes_matches_single_process(folder):
    alone = start(folder, 1)
    _, err = alone.communicate()
    assert alone.returncode == 0, err
    expected = outputs(folder)
    assert len(expected) == 7
    for path in expected:
        (folder / path).unlink()

    torn = start(folder, 3)
    while not [*(folder / ".resume").glob("*.safetensors")]:
        assert torn.poll() is None
        time.sleep(0.02)
    others = [each for each in psutil.Process(torn.pid).children() if each.environ().get("RANK") == "2"]
    assert len(others) == 1
    others[0].kill()
    _, err = torn.communicate()
    assert torn.returncode == 2
    assert err.splitlines()[-1] == (
        "train_tiny: process 3 of 3 has ended (SIGKILL); run it again, with any number of processes"
    )
    assert outputs(folder) == {}

    rest = start(folder, 2)
    _, err = rest.communicate()
    assert rest.returncode == 0, err
    assert "train_tiny: resumes after step" in err
    assert outputs(folder) == expected
    assert [*(folder / ".resume").iterdir()] == []
