"""MLflow runs: how they are grouped, what they hold, and that their failure is never the stage's."""

import hashlib
import os
import runpy
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import mlflow
import psutil
import pytest
import torch
from matplotlib.figure import Figure
from mlflow import MlflowClient

import ddpm
from ddpm import tracking
from ddpm.images import normalize_img, reconstruction_grid
from ddpm.tracking import flatten, invocation, log_images, repo_root, stage_run, tracking_uri

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's use of SQLAlchemy


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """An SQLite file with MLflow's tables and no experiment of ours: making them takes seconds, copying nothing."""
    path = tmp_path_factory.mktemp("tables") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True)
def repository(tmp_path, monkeypatch, tables):
    """An empty repository with a fresh store, as the working folder, outside any pipeline."""
    for name in (*filter(lambda name: name.startswith("DVC_"), os.environ), "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "a repository"
    (root / ".dvc").mkdir(parents=True)
    shutil.copy(tables, root / "mlflow.db")
    monkeypatch.chdir(root)
    return root


def under_dvc(monkeypatch, key):
    monkeypatch.setattr(tracking, "invocation", lambda: (key, "dvc repro"))


def runs(uri=None):
    """(parents, children) in the store, oldest first."""
    client = MlflowClient(uri or tracking_uri())
    found = client.search_runs([client.get_experiment_by_name("ddpm").experiment_id], order_by=["start_time ASC"])
    children = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    return [run for run in found if run not in children], children


def parent_id(child):
    return child.data.tags["mlflow.parentRunId"]


def git(*arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()


# Where the runs go


def test_root_is_dvc_root_then_nearest_dvc_folder_then_working_folder(repository, tmp_path, monkeypatch):
    below = repository / "src" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert repo_root() == repository
    monkeypatch.chdir(tmp_path)
    assert repo_root() == tmp_path
    monkeypatch.setenv("DVC_ROOT", str(repository))
    assert repo_root() == repository


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "sqlite:////main/mlflow.db"),
        ("", "sqlite:////main/mlflow.db"),
        ("sqlite:///runs/all.db", "sqlite:////main/runs/all.db"),
        ("sqlite:////elsewhere/all.db", "sqlite:////elsewhere/all.db"),
        ("http://localhost:5000", "http://localhost:5000"),
    ],
)
def test_uri_honours_the_environment(given, expected, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", "/main")
    if given is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert tracking_uri() == expected


def test_an_experiments_copy_leaves_everything_in_the_main_repository(repository, monkeypatch):
    copy = repository / ".dvc" / "tmp" / "exps" / "standalone" / "tmp1"
    (copy / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(repository))
    Path("models").mkdir()
    Path("models/tiny.bin").write_bytes(b"abc")
    with stage_run("train_tiny", {}) as run:
        run.log_artifact(Path("models/tiny.bin"))
    shutil.rmtree(copy)
    monkeypatch.chdir(repository)
    _, [child] = runs()
    assert [file.read_bytes() for file in (repository / "mlartifacts").rglob("models/tiny.bin")] == [b"abc"]
    kept = MlflowClient(tracking_uri()).download_artifacts(child.info.run_id, "models/tiny.bin")
    assert Path(kept).read_bytes() == b"abc"


# Grouping


def test_stages_of_one_dvc_share_a_parent_and_two_dvcs_do_not(monkeypatch):
    under_dvc(monkeypatch, "host 10 1.00")
    for stage in ("generate_gradients", "train_tiny"):
        with stage_run(stage, {}):
            assert [parent.info.status for parent in runs()[0]] == ["RUNNING"]
        assert [parent.info.status for parent in runs()[0]] == ["FINISHED"]
    under_dvc(monkeypatch, "host 10 2.00")  # the same process id, used again later
    monkeypatch.setenv("DVC_EXP_NAME", "bold-fish")
    monkeypatch.setenv("DVC_STAGE", "sample@tiny")
    with stage_run("sample", {}):
        pass
    parents, children = runs()
    assert [parent.info.run_name for parent in parents] == ["repro", "bold-fish"]
    assert [child.info.run_name for child in children] == ["generate_gradients", "train_tiny", "sample"]
    first, second = (parent.info.run_id for parent in parents)
    assert [parent_id(child) for child in children] == [first, first, second]
    assert children[-1].data.tags["dvc.stage"] == "sample@tiny"
    assert children[-1].data.tags["dvc.exp_name"] == "bold-fish"
    assert {run.info.status for run in parents + children} == {"FINISHED"}


def test_stages_started_by_hand_do_not_share_a_parent(monkeypatch):
    monkeypatch.setattr(psutil.Process, "parents", lambda _: [])
    for _ in range(2):
        with stage_run("render_grids", {}):
            pass
    parents, children = runs()
    assert [parent.info.run_name for parent in parents] == ["render_grids by hand"] * 2
    assert [parent_id(child) for child in children] == [parent.info.run_id for parent in parents]


@pytest.mark.parametrize(
    ("command", "is_dvc"),
    [
        (["dvc", "exp", "exec-run"], True),
        (["/v/bin/python3.11", "/v/bin/dvc", "repro"], True),
        (["python", "-W", "ignore", "-m", "dvc", "repro"], True),
        (["bash", "-c", "dvc repro"], False),
        (["make", "dvc"], False),
        (["python", "stages/dvc_report.py"], False),
        ([], False),
    ],
)
def test_a_pipeline_run_is_known_by_the_nearest_dvc_above(command, is_dvc, monkeypatch):
    def process(pid, argv):
        return Mock(psutil.Process, pid=pid, cmdline=lambda: argv, create_time=lambda: 5.0)

    above = [process(30, ["sh"]), process(20, command), process(10, ["dvc", "queue", "start"])]
    monkeypatch.setattr(psutil.Process, "parents", lambda _: above)
    assert invocation()[0].split()[1:] == [("20" if is_dvc else "10"), "5.00"]


STAGE = """
import os, sys
import ddpm.tracking
assert "mlflow" not in sys.modules, "importing ddpm.tracking must stay cheap"

class Importing:
    def find_spec(name, *_):
        assert name != "mlflow" or os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"

sys.meta_path.insert(0, Importing)
for stage in sys.argv[1:]:
    with ddpm.tracking.stage_run(stage, {}):
        assert "mlflow" in sys.modules
"""
DVC = """
import subprocess, sys
subprocess.run([sys.executable, "stage.py", *sys.argv[1:]], check=True)
"""


def test_real_processes_started_at_once_on_a_fresh_store(repository):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment["PYTHONPATH"] = str(Path(ddpm.__file__).parents[1])
    (repository / "mlflow.db").unlink()
    Path("stage.py").write_text(STAGE)
    Path("dvc").write_text(DVC)
    started = [
        subprocess.Popen([sys.executable, "dvc", *stages], env=environment, stderr=subprocess.PIPE, text=True)
        for stages in (["one", "two"], ["one"])
    ]
    for process in started:
        errors = process.communicate()[1]
        assert process.returncode == 0, errors
        assert "warning" not in errors
    parents, children = runs()
    pids = {parent.info.run_id: int(parent.data.tags["dvc.invocation"].split()[1]) for parent in parents}
    grouped = sorted((pids[parent_id(child)], child.info.run_name) for child in children)
    assert len(parents) == 2
    assert grouped == sorted([(started[0].pid, "one"), (started[0].pid, "two"), (started[1].pid, "one")])


# Contents


def test_flatten_gives_dotted_keys():
    nested = {"seed": 0, "train_unet": {"lr": 1e-3, "unet": {"dim_mults": (1, 2)}, "none": {}}}
    assert dict(flatten(nested)) == {"seed": 0, "train_unet.lr": 1e-3, "train_unet.unet.dim_mults": (1, 2)}


def test_params_and_tags_arrive_as_given():
    tiny = {f"p{i}": i for i in range(150)}  # a request takes 100
    with stage_run("train_tiny", {"tiny": tiny, "flag": None}) as run:
        run.set_tags({"source": "a mirror"})
    _, [child] = runs()
    assert child.data.params == {f"tiny.p{i}": str(i) for i in range(150)} | {"flag": "None"}
    assert child.data.tags["source"] == "a mirror"


def test_metrics_come_back_by_step_and_travel_in_batches(monkeypatch):
    requests = []
    real = MlflowClient.log_batch

    def counted(self, *args, **kwargs):
        requests.append(len(kwargs.get("metrics", ())))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    with stage_run("train_tiny", {}) as run:
        for step in range(1, 1301):
            run.log_metrics({"loss": 1 / step, "lr": 1e-3}, step)
        run.log_metrics({"loss": float("nan")}, 1301)
    _, [child] = runs()
    history = MlflowClient(tracking_uri()).get_metric_history(child.info.run_id, "loss")
    history.sort(key=lambda metric: metric.step)
    assert [(metric.step, metric.value) for metric in history[:-1]] == [(step, 1 / step) for step in range(1, 1301)]
    assert history[-1].step == 1301
    assert history[-1].value != history[-1].value
    assert sum(requests) == 2601
    assert len(requests) < 20  # far from one a step, also on a machine that takes a minute for the 1301 of them


def test_metrics_are_visible_while_the_stage_still_runs(monkeypatch):
    monkeypatch.setattr(tracking, "BUFFERED_SECONDS", 0.0)
    with stage_run("train_tiny", {}) as run:
        run.log_metrics({"loss": 2.0}, 1)
        [parent], [child] = runs()
        assert child.data.metrics == {"loss": 2.0}
        assert (parent.info.status, child.info.status) == ("RUNNING", "RUNNING")


def test_inputs_outputs_figures_and_images(tmp_path):
    Path("data").mkdir()
    Path("data/train+.bin").write_bytes(b"abc")
    elsewhere = tmp_path / "weights.bin"
    elsewhere.write_bytes(b"weights")
    md5 = "900150983cd24fb0d6963f7d28e17f72"  # of "abc": RFC 1321, A.5
    with stage_run("train_unet", {}) as run:
        run.log_input(Path("data/train+.bin"), "train")
        run.log_artifact(elsewhere)
        run.log_figure(Figure(figsize=(1, 1)), "loss.png")
        run.log_image(torch.rand(1, 4, 5, generator=torch.Generator().manual_seed(0)), "preview", 7)
        run.log_image(mlflow.Image(torch.zeros(4, 5, 3, dtype=torch.uint8).numpy()), "preview", 8)
    _, [child] = runs()
    [dataset] = child.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("data/train_.bin", md5)
    assert {tag.key: tag.value for tag in dataset.tags} == {"mlflow.data.context": "train"}
    assert child.data.tags["input.data/train_.bin"] == md5
    assert child.data.tags["output.weights.bin"] == hashlib.md5(b"weights").hexdigest()
    client = MlflowClient(tracking_uri())
    assert {"loss.png", "weights.bin", "images"} == {file.path for file in client.list_artifacts(child.info.run_id)}
    pictures = [file.path for file in client.list_artifacts(child.info.run_id, "images") if file.path.endswith("png")]
    assert sorted(path.split("+")[2] for path in pictures) == ["7", "8"]


def test_code_version_is_the_commit_and_whether_code_differs_from_it():
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "start")
    commit = git("rev-parse", "HEAD")
    Path("dvc.lock").write_text("what a pipeline writes as it runs is not a change of the code")
    with stage_run("sample", {}):
        pass
    Path("src").mkdir()
    Path("src/new.py").touch()
    with stage_run("sample", {}):
        pass
    parents, children = runs()
    assert {run.data.tags["mlflow.source.git.commit"] for run in parents + children} == {commit}
    assert [child.data.tags["mlflow.source.git.dirty"] for child in children] == ["false", "true"]
    assert parents[0].info.run_name.endswith(f" {commit[:7]}")


def test_log_images_shows_truth_above_guess():
    shades = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8]).view(5, 1, 1, 1, 1).expand(5, 4, 3, 2, 2)
    noised, noise, img, noise_pred, reconstructed = normalize_img(shades)
    grid = reconstruction_grid(img, noised, noise, noise_pred, reconstructed)
    cells = torch.tensor([[0.0, 0.2, 0.4], [0.0, 0.6, 0.8]]).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert grid.shape == (4, 3, 4, 6)
    assert (grid - cells).abs().max() < 1e-6  # float32 rounding of values up to 1
    images = log_images(img, noised, noise, noise_pred, reconstructed)
    assert len(images) == 3
    assert len(log_images(img, noised, noise, noise_pred, reconstructed, num_images=1)) == 1
    pixels = torch.tensor([[0, 51, 102], [0, 153, 204]]).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(torch.tensor(list(images[0].to_pil().getdata(1))).view(4, 6), pixels)


def test_pictures_of_noise_stay_in_range():
    noise = 5 * torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    grid = reconstruction_grid(*[noise] * 5)
    assert (grid.min(), grid.max()) == (0, 1)


def test_a_run_of_the_callers_own_is_left_alone(tmp_path, tables):
    shutil.copy(tables, tmp_path / "own.db")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'own.db'}")
    try:
        with mlflow.start_run() as own:
            with stage_run("train_tiny", {"lr": 1}) as run:
                run.log_metrics({"loss": 1.0}, 1)
                mlflow.log_metric("mine", 2.0)
            assert mlflow.active_run().info.run_id == own.info.run_id
            assert mlflow.active_run().info.status == "RUNNING"
        data = mlflow.get_run(own.info.run_id).data
        assert (data.metrics, data.params) == ({"mine": 2.0}, {})
    finally:
        mlflow.set_tracking_uri(before)


# Failure


def test_a_failed_stage_is_failed_in_mlflow_and_stays_so(monkeypatch):
    under_dvc(monkeypatch, "host 10 1.00")

    def stopped():
        with stage_run("train_tiny", {}) as run:
            run.log_metrics({"loss": 1.0}, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    with stage_run("train_unet", {}):  # what `dvc repro --keep-going` still runs
        pass
    [parent], children = runs()
    assert parent.info.status == "FAILED"
    assert [child.info.status for child in children] == ["FAILED", "FINISHED"]
    assert children[0].data.metrics == {"loss": 1.0}


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("store", ["no server", "silent server", "not a database", "a folder", "unknown scheme"])
def test_without_a_store_the_work_goes_on_after_one_warning(store, tmp_path, monkeypatch, capfd):
    (tmp_path / "bad.db").write_bytes(b"not a database" * 100)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        uris = {
            "no server": closed_port(),
            "silent server": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "not a database": f"sqlite:///{tmp_path / 'bad.db'}",
            "a folder": f"sqlite:///{tmp_path}",
            "unknown scheme": "nowhere://at/all",
        }
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uris[store])
        started = time.monotonic()
        with stage_run("train_tiny", {"lr": 1}) as run:
            for step in range(2000):
                run.log_metrics({"loss": 1.0}, step)
            run.log_figure(Figure(), "loss.png")
            worked = True
        took = time.monotonic() - started
    assert worked
    assert took < 10  # twice the 3 s timeout, and room for a busy machine
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("warning: MLflow")


@pytest.mark.parametrize("call", ["log_batch", "log_image", "log_artifact", "set_terminated"])
def test_a_store_that_dies_midway_costs_one_warning(call, monkeypatch, capfd):
    def dead(*_, **__):
        raise OSError("No space left on device\nand more")

    with stage_run("train_tiny", {}) as run:
        capfd.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, call, dead)
            for step in range(3):
                run.log_image(torch.zeros(1, 2, 2), "preview", step)
                run.log_artifact(Path(__file__))
                run.set_tags({"a": "b"})
            if call == "set_terminated":
                run._end("FINISHED")
    assert capfd.readouterr().err.splitlines() == [
        "warning: MLflow fails, so this stage goes on without it: No space left on device"
    ]
    [parent], [child] = runs()
    assert (parent.info.status, child.info.status) == ("FINISHED", "FINISHED")


def test_a_store_that_is_gone_for_good_costs_one_warning_too(monkeypatch, capfd):
    def dead(*_, **__):
        raise ConnectionError("gone")

    with stage_run("train_tiny", {}) as run:
        for call in ("log_batch", "set_tag", "set_terminated"):
            monkeypatch.setattr(MlflowClient, call, dead)
        run.log_metrics({"loss": 1.0}, 1)  # sent, or not, at the end
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_the_stages_own_error_survives_a_dead_store(monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", closed_port())
    with pytest.raises(ValueError, match="mine"), stage_run("train_tiny", {}):
        raise ValueError("mine")
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_the_module_prints_where_the_runs_are(repository, capsys):
    runpy.run_path(tracking.__file__, run_name="__main__")
    assert capsys.readouterr().out == f"sqlite:///{repository}/mlflow.db\n"
