"""docs/sharing.md: other clones have the results and experiments of the first, without data and without training."""

import subprocess
from pathlib import Path

import pytest
from clone import Clone, stages_run
from project import NOWHERE

PICTURE = "reports/figures/unet_samples.png"


@pytest.fixture(scope="module")
def first(repro, images, stage_environment, tmp_path_factory):
    """A clone that has run and pushed its outputs to a folder, `store`."""
    clone = Clone(repro / "shared", stage_environment, images)
    clone.store = tmp_path_factory.mktemp("store")
    clone.run("dvc", "remote", "add", "--default", "team", str(clone.store))
    clone.run("dvc", "push", "dvc.yaml")
    clone.commit()
    return clone


@pytest.fixture(scope="module")
def new_clone(first, images, stage_environment, tmp_path_factory):
    """Makes clones of the first's repository."""

    def make():
        folder = tmp_path_factory.mktemp("clones") / "another"
        subprocess.run(["git", "clone", "--quiet", first.folder, folder], check=True)
        return Clone(folder, stage_environment | {"MLFLOW_TRACKING_URI": NOWHERE}, images)

    return make


@pytest.fixture(scope="module")
def other(new_clone):
    return new_clone()


def files(clone):
    """The MD5s of the outputs and the lock, by their paths in the clone."""
    return {path.relative_to(clone.folder): md5 for path, md5 in clone.files().items()}


def test_pull_names_outputs_that_the_remote_lacks(first, other):
    [md5] = [md5 for path, md5 in files(first).items() if path.as_posix() == PICTURE]
    stored = first.store / "files/md5" / md5[:2] / md5[2:]
    stored.rename(first.store / "aside")
    output = other.run("dvc", "pull", "dvc.yaml", status=1)
    (first.store / "aside").rename(stored)
    assert f"Checkout failed for following targets:\n{PICTURE}\n" in output
    assert len(files(other)) == len(files(first)) - 1


def test_pulled_outputs_are_up_to_date(first, other):
    other.run("dvc", "pull", "dvc.yaml")
    assert stages_run(other.run("dvc", "repro")) == []
    assert files(other) == files(first)


def test_experiment_goes_through_a_bare_git_remote(first, other, new_clone, tmp_path):
    hub = tmp_path / "hub.git"
    subprocess.run(["git", "init", "--quiet", "--bare", hub], check=True)
    output = other.run("dvc", "exp", "run", "--name", "rows", "-S", "render_unet.grid_rows=3")
    assert {*stages_run(output)} == {"check", "render_unet", "render_page", "summary"}
    third = new_clone()
    for clone in (other, third):
        clone.run("git", "remote", "add", "hub", str(hub))
    other.run("dvc", "exp", "push", "hub", "rows")
    assert "rows" in third.run("dvc", "exp", "list", "hub")
    third.run("dvc", "exp", "pull", "hub", "rows")
    output = third.run("dvc", "exp", "apply", "rows", status=255)
    lacking = output.partition("Checkout failed for following targets:\n")[2].partition("Is your cache")[0].split()
    assert lacking
    assert all(path.startswith("doors/") for path in lacking)  # the doors have not run
    assert files(third) == files(other)
    assert files(third)[Path(PICTURE)] != files(first)[Path(PICTURE)]
