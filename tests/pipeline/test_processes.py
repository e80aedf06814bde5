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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project with gradients to train on."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "params.yaml").write_text((REPO / "params.yaml").read_text())
    write_params(folder, TINY | {"checkpoint_seconds": 0})
    write_params(folder, {"train_tiny": {"micro_batches": 8, "epochs": 10}})
    (folder / ".dvc").mkdir()
    for name in ("src", "stages"):
        (folder / name).symlink_to(REPO / name)
    for split, n in (("train", 2000), ("held_out", 300)):
        dataset = ImageDataset(gradient_images(n, (3, 4, 5), generator(0, split)))
        save_dataset(folder / f"data/gradients/{split}.safetensors", dataset)
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    """The outputs of one process."""
    alone = start(folder, 1)
    _, err = alone.communicate()
    assert alone.returncode == 0, err
    found = taken(folder)
    assert len(found) == 7
    return found


def start(folder, processes, *launcher):
    write_params(folder, {"processes": processes})
    environment = os.environ | {"PYTHONPATH": "src", "MLFLOW_TRACKING_URI": NOWHERE}
    command = [sys.executable, *launcher, "stages/train.py", "train_tiny"]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def taken(folder):
    """The outputs, which are removed."""
    paths = [*folder.glob("models/*"), *folder.glob("reports/train_tiny/*")]
    found = {path.relative_to(folder): path.read_bytes() for path in paths}
    for path in paths:
        path.unlink()
    return found


def test_resume_with_fewer_processes_matches_single_process(folder, expected):
    torn = start(folder, 4)
    while not [*(folder / ".resume").glob("*.safetensors")]:
        assert torn.poll() is None
        time.sleep(0.02)
    others = [each for each in psutil.Process(torn.pid).children() if each.environ().get("RANK") == "2"]
    assert len(others) == 1
    others[0].kill()
    _, err = torn.communicate()
    assert torn.returncode == 2
    assert err.splitlines()[-1] == (
        "train_tiny: process 3 of 4 has ended (SIGKILL); run it again, with any number of processes"
    )
    assert taken(folder) == {}

    rest = start(folder, 1)
    _, err = rest.communicate()
    assert rest.returncode == 0, err
    assert "train_tiny: resumes after step" in err
    assert taken(folder) == expected
    assert [*(folder / ".resume").iterdir()] == []


def test_torchrun_matches_single_process(folder, expected):
    process = start(folder, 1, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert taken(folder) == expected
