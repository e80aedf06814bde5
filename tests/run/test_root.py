"""Where a pipeline is in the repository: at its top, in a door, in the copy of an experiment."""

from pathlib import Path

import pytest

from ddpm.run.plan import source_folder
from ddpm.run.root import checkout, door, dvc_command, from_root, in_repo, repo_root, with_door


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a door, and a copy of it as `dvc exp run --temp` makes one."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    for folder in (tmp_path, tmp_path / ".dvc/tmp/exps/standalone/tmp1"):
        (folder / "doors/toy").mkdir(parents=True)
        (folder / ".dvc").mkdir(exist_ok=True)
    return tmp_path


def test_names_are_unchanged_at_repository_root(repository, monkeypatch):
    monkeypatch.chdir(repository)
    assert (checkout(), repo_root()) == (repository, repository)
    assert (door(), with_door("sample"), dvc_command("repro")) == ("", "sample", "dvc repro")
    assert in_repo("params.yaml") == "params.yaml"
    assert source_folder() == Path("src")


@pytest.mark.parametrize("copy", ["", ".dvc/tmp/exps/standalone/tmp1"])
def test_door_prefixes_names_and_uses_code_of_its_checkout(copy, repository, monkeypatch):
    monkeypatch.chdir(repository / copy / "doors/toy")
    monkeypatch.setenv("DVC_ROOT", str(repository))
    assert (checkout(), repo_root()) == (repository / copy, repository)
    assert (door(), with_door("sample")) == ("toy", "toy.sample")
    assert dvc_command("exp run") == "dvc exp run doors/toy/dvc.yaml"
    assert in_repo("params.yaml") == "doors/toy/params.yaml"
    assert in_repo("../../data/a.txt") == "data/a.txt"
    assert in_repo("/elsewhere/a.txt") == "/elsewhere/a.txt"
    assert source_folder() == Path("../../src")
    assert from_root("init/a") == repository / "init/a"
