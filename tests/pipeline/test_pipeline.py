"""The pipeline as a user runs it, at tiny settings on the real data: bits, caching, experiments, mistakes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from project import NOWHERE, STAGES, TINY, copy_project, write_params
from ruamel.yaml import YAML

# Starts a command with a terminal to write to, wide enough for progress bars, and passes on what it says.
IN_A_TERMINAL = """
import os, pty, sys
command = ["sh", "-c", 'stty cols 120 rows 40 && exec "$0" "$@"', *sys.argv[1:]]
sys.exit(os.waitstatus_to_exitcode(pty.spawn(command)))
"""


TRACKED = [stage for stage in STAGES if stage != "check"]


def stages_run(output: str) -> list[str]:
    return [stage for stage in STAGES if f"Running stage '{stage}'" in output]


class Clone:
    """A copy of the project that can be run."""

    def __init__(self, folder: Path, raw: Path, environment: dict[str, str], **extra: str) -> None:
        folder.mkdir()
        copy_project(folder)
        write_params(folder, TINY | {"data": TINY["data"] | {"path": str(raw)}})
        self.folder = folder
        self.environment = environment | extra

    def start(self, *command: str) -> subprocess.Popen:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, text=True, **pipes)

    def run(self, *command: str, status: int = 0) -> str:
        process = self.start(*command)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == status, output
        return output

    def lock(self) -> dict:
        return YAML(typ="safe").load(self.folder / "dvc.lock")["stages"]

    def runs(self) -> list:
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        return client.search_runs([client.get_experiment_by_name("ddpm").experiment_id])


@pytest.fixture(scope="module")
def clones(tmp_path_factory, fashion_mnist_raw, stage_environment):
    """Two clones, each run once: the second in a terminal, and with an MLflow server that is not there."""
    parent = tmp_path_factory.mktemp("clones")
    pair = [
        Clone(parent / "one", fashion_mnist_raw, stage_environment),
        Clone(parent / "two", fashion_mnist_raw, stage_environment, MLFLOW_TRACKING_URI=NOWHERE),
    ]
    processes = [pair[0].start("dvc", "repro"), pair[1].start(sys.executable, "-c", IN_A_TERMINAL, "dvc", "repro")]
    for clone, process in zip(pair, processes, strict=True):
        clone.output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, clone.output
    return pair


def test_two_clones_end_with_the_same_hashes(clones):
    first, second = (clone.lock() for clone in clones)
    assert set(first) == set(STAGES)
    for stage in STAGES:
        outs = [{out["path"]: out["md5"] for out in lock[stage]["outs"]} for lock in (first, second)]
        assert outs[0] == outs[1]


def test_bars_are_shown_in_a_terminal_and_nowhere_else(clones):
    for bar in ("train:", "train classifier:", "sample unet:"):
        assert f"{bar} 100%" in clones[1].output
        assert bar not in clones[0].output


def test_force_runs_a_stage_again_to_the_same_hashes(clones):
    before = clones[0].lock()
    output = clones[0].run("dvc", "repro", "--force", "--single-item", "train_tiny")
    assert stages_run(output) == ["train_tiny"]
    assert clones[0].lock() == before


def test_tracking_that_fails_says_so_once_a_stage(clones):
    assert clones[1].output.count("MLflow fails, so this stage is kept") == len(TRACKED)
    assert "MLflow fails" not in clones[0].output


def test_one_parent_run_and_a_child_a_stage(clones):
    runs = clones[0].runs()
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    parent = next(run for run in parents if run.data.tags["dvc.command"].endswith("dvc repro"))
    own = [run for run in children if run.data.tags["mlflow.parentRunId"] == parent.info.run_id]
    assert sorted(run.info.run_name for run in own) == sorted(TRACKED)
    assert {run.info.status for run in [parent, *own]} == {"FINISHED"}
    trained = next(run for run in own if run.info.run_name == "train_unet")
    metrics = json.loads((clones[0].folder / "reports/train_unet/metrics.json").read_text())
    assert {key: trained.data.metrics[key] for key in metrics} == pytest.approx(metrics)
    assert trained.data.params["train_unet.unet.channels"] == "16"
    assert trained.data.params["threads"] == "1"  # what the promise of same bits is for
    assert clones[0].lock()["train_unet"]["params"]["params.yaml"]["threads"] == 1


def test_a_second_repro_runs_nothing(clones):
    assert stages_run(clones[0].run("dvc", "repro")) == []


def test_metrics_and_plots_say_something(clones):
    shown = clones[0].run("dvc", "metrics", "show")
    assert "eval_loss" in shown
    assert "reports/train_unet/metrics.json" in shown
    clones[0].run("dvc", "plots", "show")
    page = (clones[0].folder / "dvc_plots/index.html").read_text()
    titles = ("tiny diffuser on gradients", "U-Net on FashionMNIST", "held-out loss by timestep")
    for text in (*titles, "train_loss", "eval_loss", "unet_samples.png"):
        assert text in page


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"render_data": {"n_gradients": 9}}, {"check", "render_data", "render_page"}),
        (
            {"sample": {"tiny": {"n_samples": 43}}},
            {"check", "sample_tiny", "evaluate_tiny", "render_tiny", "render_exact", "render_page"},
        ),
        ({"checkpoint_seconds": 7}, {"check"}),
    ],
)
def test_a_change_runs_what_it_touches(clones, change, expected):
    write_params(clones[1].folder, change)
    assert set(stages_run(clones[1].run("dvc", "repro"))) == expected


def test_an_experiment_in_a_temporary_folder_is_its_own_run(clones):
    clone = clones[0]
    clone.run("git", "add", "-A")
    clone.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "ran")
    before = {run.info.run_id for run in clone.runs()}
    clone.run("dvc", "exp", "run", "--temp", "--name", "slower", "-S", "train_tiny.lr=0.0005")
    table = clone.run("dvc", "exp", "show", "--csv")
    assert "slower" in table
    assert "0.0005" in table
    new = [run for run in clone.runs() if run.info.run_id not in before]
    parents = [run for run in new if "mlflow.parentRunId" not in run.data.tags]
    assert [run.info.run_name for run in parents] == ["slower"]
    children = {run.info.run_name: run for run in new if "mlflow.parentRunId" in run.data.tags}
    assert set(children) == {
        *("train_tiny", "sample_tiny", "evaluate_tiny", "render_tiny", "render_exact", "render_page")
    }
    assert children["train_tiny"].data.params["train_tiny.lr"] == "0.0005"
    assert not any(clone.folder.glob(".dvc/tmp/exps/standalone/tmp*/mlflow.db"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_tiny": {"lr": "fast"}}, "params.yaml: train_tiny.lr is 'fast'"),
        ({"generate_gradients": {"n_held_out": -1}}, "generate_gradients.n_held_out is -1"),
        ({"train_unet": {"chanels": 3}}, "train_unet.chanels is not a parameter"),
        ({"train_unet": {"unet": {"dim_mults": [1, 2, 4, 8]}}}, "multiples of 16"),
        (
            {"sample": {"tiny": {"n_steps": 26}}},
            "sample.tiny.n_steps is 26; train_tiny.max_steps is 25, so sampler ancestral takes 1 to 25",
        ),
    ],
)
def test_mistakes_in_params_stop_the_pipeline_in_one_line_before_any_work(clones, change, message):
    clone = clones[1]
    params = clone.folder / "params.yaml"
    kept = params.read_text()
    write_params(clone.folder, change)
    try:
        output = clone.run("dvc", "repro", status=255)
    finally:
        params.write_text(kept)
    assert message in output
    assert "Traceback" not in output
    assert stages_run(output) == ["check"]


def test_unwritable_and_damaged_files_end_in_one_line(clones):
    clone = clones[1]
    clone.environment["PYTHONPATH"] = "src"
    out = clone.folder / "samples"
    out.rename(clone.folder / "kept")
    out.write_text("in the way of a folder")
    model = clone.folder / "models/tiny.safetensors"
    whole = model.read_bytes()
    try:
        output = clone.run("python", "stages/sample.py", "sample_tiny", status=2)
        assert "samples" in output
        assert "Traceback" not in output
        os.chmod(model, 0o644)
        model.write_bytes(whole[:1000])
        output = clone.run("python", "stages/sample.py", "sample_tiny", status=2)
        assert "models/tiny.safetensors: not a model file" in output
        assert "Traceback" not in output
    finally:
        model.write_bytes(whole)
        out.unlink()
        (clone.folder / "kept").rename(out)
        del clone.environment["PYTHONPATH"]
