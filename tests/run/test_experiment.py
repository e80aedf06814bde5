"""What `dvc exp run -S` wrote into params.yaml is taken back after a mistake, and nothing else."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm.run import baseline, experiment
from ddpm.run.baseline import changed_params, committed_params
from ddpm.run.experiment import overridden, take_back_overrides, way_back
from ddpm.run.tracking.record import how_to_repeat
from ddpm.run.yaml import load_yaml

COMMITTED = "# a comment\nseed: 0     # of all\ntrain:\n  lr: 1e-3\n  betas: [0.9, 0.99]\n  unet: {channels: 64}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An experiment in a workspace that is a subfolder of another repository."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "params.yaml").write_text(COMMITTED)
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "all"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.chdir(project)
    monkeypatch.setenv("DVC_ROOT", str(project))
    monkeypatch.setenv("DVC_EXP_NAME", "bold-name")
    return project


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("init: null", "", {"init": None}),
        ("", "init: null", {"init": None}),
        ("init: null", "init: null", {}),
        ("lr: 1", "lr: 2", {"lr": 2}),
    ],
)
def test_changed_params_include_added_and_removed_nulls(before, after, changed, folder, monkeypatch):
    monkeypatch.setattr(baseline, "committed_params", lambda: f"seed: 0\n{before}\n")
    (folder / "params.yaml").write_text(f"seed: 0\n{after}\n")
    assert changed_params() == changed


def overrides(monkeypatch, *words, folder="."):
    command = ["python", "dvc", "exp", "run", *words]
    monkeypatch.setattr(experiment, "_command", lambda: (command, Path(folder)))


def test_taking_back_overrides_restores_committed_file(folder, monkeypatch):
    overrides(monkeypatch, "-S", "train.lr=abc", "--set-param=train.unet.channels=7", "-S", "+train.new=1")
    changed = "seed: 0\ntrain:\n  lr: abc\n  betas:\n  - 0.9\n  - 0.99\n  unet:\n    channels: 7\n  new: 1\n"
    (folder / "params.yaml").write_text(changed)
    assert changed_params() == {"train.lr": "abc", "train.new": 1, "train.unet.channels": 7}
    assert take_back_overrides()
    assert (folder / "params.yaml").read_text() == COMMITTED
    assert changed_params() == {}


def test_taking_back_overrides_keeps_manual_changes(folder, monkeypatch):
    overrides(monkeypatch, "-Strain.lr=abc", "--queue", "-S", "~train.betas", "-S", "other.yaml:seed=3")
    (folder / "params.yaml").write_text("# mine\nseed: 5\ntrain:\n  lr: abc\n  unet: {channels: 32}\n")
    assert take_back_overrides()
    assert load_yaml(folder / "params.yaml") == {
        "seed": 5,
        "train": {"lr": 1e-3, "unet": {"channels": 32}, "betas": [0.9, 0.99]},
    }
    assert (folder / "params.yaml").read_text().startswith("# mine\n")


@pytest.mark.parametrize(
    ("words", "started_in", "taken_back"),
    [
        (["-S", "doors/a/params.yaml:train.lr=abc", "-S", "seed=3"], ".", True),
        (["-S", "train.lr=abc"], "doors/a", True),
        (["-S", "train.lr=abc"], ".", False),  # the main pipeline's key
        (["-S", "doors/b/params.yaml:train.lr=abc"], ".", False),
    ],
)
def test_taking_back_overrides_in_door_affects_only_its_keys(words, started_in, taken_back, folder, monkeypatch):
    for name in (".dvc", "doors/a", "doors/b"):
        (folder / name).mkdir(parents=True)
    own = folder / "doors/a/params.yaml"
    own.write_text(COMMITTED)
    for words_of_git in (["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "doors"]):
        subprocess.run(["git", *words_of_git], check=True)
    monkeypatch.chdir(own.parent)
    overrides(monkeypatch, *words, folder=folder / started_in)
    own.write_text(COMMITTED.replace("1e-3", "abc").replace("seed: 0", "seed: 3"))
    assert changed_params() == {"doors/a/params.yaml:train.lr": "abc", "doors/a/params.yaml:seed": 3}
    again = "dvc exp run doors/a/dvc.yaml -S doors/a/params.yaml:seed=3 -S doors/a/params.yaml:train.lr=abc"
    assert again in how_to_repeat().splitlines()
    assert take_back_overrides() == taken_back
    assert changed_params().keys() == {f"doors/a/params.yaml:{k}" for k in ("seed", "train.lr")[: 2 - taken_back]}
    assert way_back().endswith(": git checkout HEAD doors/a/params.yaml && dvc repro doors/a/dvc.yaml")


@pytest.mark.parametrize("why", ["no experiment", "a copy", "no git", "no overrides", "not even YAML"])
def test_params_are_unchanged_without_overrides_to_take_back(why, folder, tmp_path, monkeypatch):
    overrides(monkeypatch, *([] if why == "no overrides" else ["-S", "seed=abc"]))
    text = "seed: [" if why == "not even YAML" else "seed: abc\n"
    (folder / "params.yaml").write_text(text)
    if why == "no experiment":
        monkeypatch.delenv("DVC_EXP_NAME")
    if why == "a copy":
        monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    if why == "no git":
        monkeypatch.setenv("GIT_DIR", str(tmp_path / "none"))
        assert committed_params() is None
        assert changed_params() == {}
    assert not take_back_overrides()
    assert (folder / "params.yaml").read_text() == text


KEYS = st.from_regex(r"[a-z_]+(\.[a-z_]+){0,2}", fullmatch=True)


@given(st.lists(st.tuples(KEYS, st.sampled_from(["-S", "--set-param"]), st.sampled_from(["", "+", "~", "++"]))))
def test_overridden_finds_keys_in_all_option_forms(asked):
    command = ["dvc", "exp", "run", "--name", "run"]
    for key, option, sign in asked:
        command += [option, f"{sign}{key}=1"] if sign else [f"{option}={key}=1", "-f"]
    assert list(overridden(command)) == [key for key, *_ in asked]
