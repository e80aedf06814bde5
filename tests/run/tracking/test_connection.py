"""A store that was moved or copied with its folder still finds its artifacts. Experiments open on the right page."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from PIL import Image
from runs import git, parent_id, runs, under_dvc

from ddpm.run.tracking import connection
from ddpm.run.tracking.connection import connect, moved, page, relocate
from ddpm.run.tracking.record import stage_run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's use of SQLAlchemy


def log(text):
    Path("notes.txt").write_text(text)
    with stage_run("train_tiny", {}) as run:
        run.log_artifact(Path("notes.txt"))


def contents(root):
    """The texts of all runs in the store of a folder, found by MLflow's own client."""
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    children = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    return sorted(Path(client.download_artifacts(run.info.run_id, "notes.txt")).read_text() for run in children)


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_moved_or_copied_store_keeps_and_accepts_artifacts(how, repository, monkeypatch):
    log("first")
    other = repository.with_name("another (place)")
    if how == "moved":
        monkeypatch.chdir(repository.parent)
        repository.rename(other)
    else:
        shutil.copytree(repository, other)
    monkeypatch.chdir(other)
    log("second")
    assert contents(other) == ["first", "second"]
    assert repository.exists() == (how == "copied")
    if how == "copied":
        assert contents(repository) == ["first"]


def test_relocate_keeps_paths_of_artifacts_left_behind(tmp_path):
    log("first")
    (tmp_path / "new").mkdir()
    shutil.copy("mlflow.db", tmp_path / "new/mlflow.db")
    (tmp_path / "new/mlartifacts").mkdir()  # without the artifacts
    relocate(tmp_path / "new/mlflow.db", tmp_path / "new/mlartifacts")
    assert contents(tmp_path / "new") == ["first"]


def test_store_without_artifact_folder_creates_new_one(repository, tmp_path, monkeypatch):
    log("first")
    other = tmp_path / "other"
    (other / ".dvc").mkdir(parents=True)
    shutil.copy("mlflow.db", other / "mlflow.db")
    monkeypatch.chdir(other)
    log("second")
    assert len(list((repository / "mlartifacts").iterdir())) == 1
    assert len(list((other / "mlartifacts").iterdir())) == 1
    assert contents(other) == ["first", "second"]


def test_relocate_does_not_change_unmoved_store(repository):
    log("first")
    before = (repository / "mlflow.db").read_bytes()
    assert relocate(repository / "mlflow.db", repository / "mlartifacts") == 0
    assert relocate(repository / "none.db", repository / "mlartifacts") == 0
    assert (repository / "mlflow.db").read_bytes() == before


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("file:///a/mlartifacts", "file:///new%20x/mlartifacts"),
        ("file:///a/mlartifacts/1/artifacts", "file:///new%20x/mlartifacts/1/artifacts"),
        ("file:///mlartifacts/a/mlartifacts/1", "file:///new%20x/mlartifacts/1"),
        ("file:///mlartifacts-old/mlartifacts/1", "file:///new%20x/mlartifacts/1"),
        ("file:///new%20x/mlartifacts/1/artifacts", "file:///new%20x/mlartifacts/1/artifacts"),
        ("file:///a/mlartifacts2/1", "file:///a/mlartifacts2/1"),
        ("s3://bucket/mlartifacts/1", "s3://bucket/mlartifacts/1"),
        ("/a/mlruns/0", "/a/mlruns/0"),
        ("", ""),
    ],
)
def test_moved_rewrites_only_file_uris_in_artifact_folder(place, expected):
    assert moved(place, Path("/new x/mlartifacts")) == expected


def test_experiment_has_configured_name_and_opens_on_runs(monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "team-a")
    client, identity = connect()
    assert connect()[1] == identity
    experiment = client.get_experiment(identity)
    assert experiment.name == "team-a"
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    (view,) = [value for key, value in experiment.tags.items() if key.endswith(f".{connection.VIEW}")]
    assert json.loads(view)["selectedColumns"] == ["attributes.`Created`", "attributes.`Duration`"]
    assert page(identity).startswith(f"/#/experiments/{identity}/runs?workflowType=machine_learning")


@pytest.fixture
def changed():
    """params.yaml with uncommitted values, and a picture of 400 x 300 pixels."""
    committed = {"seed": 0, "train_unet": {"lr": 0.1, "epochs": 2}, "unet": {"dim_mults": [1]}, "n": 3, "same": 1}
    Path("params.yaml").write_text(json.dumps(committed))
    git("init", "--quiet")
    git("add", "params.yaml")
    git("commit", "--quiet", "--message", "params")
    Path("params.yaml").write_text(json.dumps(committed | {"train_unet": {"lr": 0.01, "epochs": 2}, "n": None}))
    Image.new("RGB", (400, 300), "red").save("samples.png")


@pytest.mark.usefixtures("changed")
def test_summary_gives_parent_metrics_params_and_description(repository):
    with stage_run("summary", {}) as run:
        run.summarize({"auc": 0.7, "recall": 0.8}, Path("samples.png"))
    _, (child,) = runs()
    client = MlflowClient(f"sqlite:///{repository / 'mlflow.db'}")
    parent = client.get_run(parent_id(child))
    assert parent.data.metrics == {"auc": 0.7, "recall": 0.8}
    tags = client.get_experiment(parent.info.experiment_id).tags
    (view,) = [value for key, value in tags.items() if key.endswith(f".{connection.VIEW}")]
    assert json.loads(view)["selectedColumns"][-2:] == ["metrics.`auc`", "metrics.`recall`"]
    assert parent.data.params == {"train_unet.lr": "0.01", "train_unet.epochs": "2", "seed": "0", "n": "None"}
    assert "auc" not in child.data.metrics
    about = parent.data.tags["mlflow.note.content"]
    shown = re.findall(rf"get-artifact\?path=(\S+)&run_uuid={parent.info.run_id}\)", about)
    with Image.open(client.download_artifacts(parent.info.run_id, shown[0])) as first:
        assert first.height < 100 < first.width  # MLflow folds what is below
        assert {pixel for _, pixel in first.getcolors()} == {(255, 0, 0)}
    whole = client.download_artifacts(parent.info.run_id, shown[1])
    assert Path(whole).read_bytes() == Path("samples.png").read_bytes()
    assert f"git checkout {git('rev-parse', 'HEAD')}\ndvc exp run -S n=null -S train_unet.lr=0.01\n" in about


@pytest.mark.usefixtures("changed")
def test_parent_without_summary_has_params_and_explanation():
    with pytest.raises(ValueError, match="broke off"), stage_run("train_unet", {}):
        raise ValueError("broke off")
    (parent,), _ = runs()
    assert parent.data.metrics == {}
    assert parent.data.params == {"train_unet.lr": "0.01", "train_unet.epochs": "2", "seed": "0", "n": "None"}
    about = parent.data.tags["mlflow.note.content"]
    assert about.startswith("No headline metrics: stage `summary` has not run.")
    assert "dvc exp run -S n=null -S train_unet.lr=0.01\n" in about


@pytest.mark.usefixtures("changed")
def test_second_summary_replaces_metrics_of_parent(monkeypatch):
    under_dvc(monkeypatch, "one")
    for auc, lr in ((0.9, 0.5), (0.7, 0.2)):
        Path("params.yaml").write_text(json.dumps({"train_unet": {"lr": lr}}))
        with stage_run("summary", {}) as run:
            run.summarize({"auc": auc}, Path("samples.png"))
    (parent,), _ = runs()
    assert parent.data.metrics == {"auc": 0.7}
    assert parent.data.params["train_unet.lr"] == "0.5"  # MLflow keeps the first value of a param


def test_ui_reports_unreachable_server_without_password():
    def ui(uri):
        environment = os.environ | {"MLFLOW_TRACKING_URI": uri}
        command = [sys.executable, "-m", "ddpm.run.tracking", "ui"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    done = ui("http://someone:secret@127.0.0.1:9")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "ui: http://127.0.0.1:9: 127.0.0.1:9: Connection refused\n"
