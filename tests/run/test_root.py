"""Where a pipeline is in the repository: at its top, in a door, in the copy of an experiment."""

from pathlib import Path

import pytest
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides

from ddpm.run.plan import source_folder
from ddpm.run.root import checkout, door, dvc_command, from_root, in_repo, repo_root, with_door
from ddpm.run.yaml import load_yaml


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


def test_home_folder_is_expanded(repository, monkeypatch):
    monkeypatch.chdir(repository)
    monkeypatch.setenv("HOME", "/home/a")
    assert from_root("~/my pictures") == Path("/home/a/my pictures")
    assert from_root("pictures~/a") == repository / "pictures~/a"
    assert from_root("~no one/a") == repository / "~no one/a"


@pytest.mark.parametrize("path", ["~/my pictures", "Bücher mit Äpfeln", "a,b (1)/c=d:e"])
def test_quoted_path_survives_dvc_overrides(path, tmp_path):
    """As docs/own_pictures.md quotes it: -S "data.path='my pictures'"."""
    (tmp_path / "params.yaml").write_text("data:\n  path: null\n")
    [(_, changes)] = to_path_overrides([f"data.path='{path}'"]).items()
    apply_overrides(str(tmp_path / "params.yaml"), changes)
    assert load_yaml(tmp_path / "params.yaml") == {"data": {"path": path}}
