"""What an MLflow run holds."""

import hashlib
import shutil
from pathlib import Path

import mlflow
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image
from runs import git, runs

from ddpm.images import normalize_img, reconstruction_grid
from ddpm.run.tracking.outbox import tracking_uri
from ddpm.run.tracking.record import log_images, stage_run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's use of SQLAlchemy


def test_params_and_tags_are_logged_unchanged():
    tiny = {f"p{i}": i for i in range(150)}  # a request takes 100
    with stage_run("train_tiny", {"tiny": tiny, "flag": None}) as run:
        run.set_tags({"sampler": "ddim"})
    _, [child] = runs()
    assert child.data.tags["sampler"] == "ddim"
    assert child.data.params == {f"tiny.p{i}": str(i) for i in range(150)} | {"flag": "None"}


def test_metrics_are_logged_by_step_and_sent_in_batches(monkeypatch):
    requests = []
    real = MlflowClient.log_batch

    def counted(self, run_id, metrics, *args, **kwargs):
        requests.append(len(metrics))
        return real(self, run_id, metrics, *args, **kwargs)

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
    assert len(requests) < 20  # far fewer than steps, even on a machine that takes a minute for all 1301


def test_inputs_outputs_and_images_are_logged(tmp_path):
    Path("data").mkdir()
    Path("data/train+.bin").write_bytes(b"abc")
    elsewhere = tmp_path / "weights.bin"
    elsewhere.write_bytes(b"weights")
    md5 = "900150983cd24fb0d6963f7d28e17f72"  # of "abc": RFC 1321, A.5
    with stage_run("train_unet", {}) as run:
        run.log_input(Path("data/train+.bin"))
        run.log_artifact(elsewhere)
        run.log_image(torch.full((1, 4, 5), 0.2), "preview", 7)
        run.log_image(torch.rand(3, 400, 600, generator=torch.Generator().manual_seed(0)), "preview", 8)
    _, [child] = runs()
    [dataset] = child.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("data/train_.bin", md5)
    assert child.data.tags["input.data/train_.bin"] == md5
    assert child.data.tags["output.weights.bin"] == hashlib.md5(b"weights").hexdigest()
    client = MlflowClient(tracking_uri())
    assert {"weights.bin", "images"} == {file.path for file in client.list_artifacts(child.info.run_id)}
    names = sorted(Path(file.path).name for file in client.list_artifacts(child.info.run_id, "images"))
    assert [(name.split("+")[2], Path(name).suffix) for name in names] == [
        ("7", ".webp"),
        ("7", ".png"),
        ("8", ".webp"),
        ("8", ".png"),
    ]
    sizes = []
    for name in names:
        with Image.open(client.download_artifacts(child.info.run_id, f"images/{name}")) as shown:
            sizes.append(shown.size)
            assert not name.endswith(".png") or shown.size != (5, 4) or set(shown.getdata()) == {51}
    assert sizes == [(5, 4), (5, 4), (256, 171), (600, 400)]


@pytest.mark.parametrize("inside_another", [False, True])
def test_code_version_is_commit_and_dirty_flag(inside_another, monkeypatch):
    git("init", "--quiet")
    if inside_another:  # the project is a subfolder of a repository with its own code
        Path("src").mkdir()
        Path("src/theirs.py").touch()
        Path("project/.dvc").mkdir(parents=True)
        monkeypatch.setenv("DVC_ROOT", str(Path.cwd()))
        monkeypatch.chdir("project")
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


def test_log_images_shows_targets_above_predictions():
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


def test_reconstruction_grid_is_clamped_to_unit_range():
    noise = 5 * torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    grid = reconstruction_grid(*[noise] * 5)
    assert (grid.min(), grid.max()) == (0, 1)


def test_stage_run_does_not_affect_callers_active_run(tmp_path, tables):
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
