"""The pipeline as a user runs it, at tiny settings on a few real images: bits, caching, experiments, mistakes."""

import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from clone import FORKING_DVC, Clone, stages_run
from project import NOWHERE, STAGES, write_params

from ddpm.run.plan import is_neutral
from ddpm.run.yaml import load_yaml

# Runs a command in a terminal wide enough for progress bars, and passes on its output.
IN_A_TERMINAL = """
import os, pty, sys
command = ["sh", "-c", 'stty cols 120 rows 40 && exec "$0" "$@"', *sys.argv[1:]]
sys.exit(os.waitstatus_to_exitcode(pty.spawn(command)))
"""
# Python imports it before a stage: it records which modules of this project the stage has imported at its end.
RECORDER = """
import atexit, json, os, pathlib, sys

@atexit.register
def record():
    if sys.argv[0].startswith("stages/"):
        name = sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(sys.argv[0]).stem
        modules = [module for module in sys.modules if module.startswith("ddpm.")]
        pathlib.Path(os.environ["RECORD_TO"], f"{name}.json").write_text(json.dumps(modules))
"""
TRACKED = [stage for stage in STAGES if stage != "check"]


@pytest.fixture(scope="module")
def clones(request, tmp_path_factory, images, stage_environment):
    """Two clones, each run once: the first by dvc, and the second without it, in a terminal, without an MLflow server
    and with a recorder of imports. The outputs of the second are then committed."""
    other = {"MLFLOW_TRACKING_URI": NOWHERE, "RECORD_TO": str(tmp_path_factory.mktemp("records"))}
    second = Clone(tmp_path_factory.mktemp("clones") / "two", stage_environment | other, images)
    (second.folder / "src/sitecustomize.py").write_text(RECORDER)
    (second.folder / ".git/dvc").write_text(FORKING_DVC)
    command = "env", "PYTHONPATH=src", sys.executable, ".git/dvc", "dvc.yaml"
    process = second.start(sys.executable, "-c", IN_A_TERMINAL, *command)
    folder = request.getfixturevalue("repro")
    first = Clone(folder / "one", stage_environment, images)
    first.output, second.output = (folder / "output").read_text(), second.finish(process)
    second.run("dvc", "commit", "--force", "dvc.yaml")
    return first, second


def test_two_clones_produce_identical_hashes(clones):
    first, second = (clone.lock() for clone in clones)
    assert set(first) == set(STAGES)
    for stage in STAGES:
        outs = [{out["path"]: out["md5"] for out in lock[stage]["outs"]} for lock in (first, second)]
        assert outs[0] == outs[1]


def test_progress_bars_appear_only_in_terminal(clones):
    for bar in ("train:", "train classifier:", "sample unet:"):
        assert f"{bar} 100%" in clones[1].output
        assert bar not in clones[0].output


def test_forced_repro_produces_same_hashes(clones):
    before = clones[0].lock()
    output = clones[0].run("dvc", "repro", "--force", "--single-item", "train_tiny")
    assert stages_run(output) == ["train_tiny"]
    assert clones[0].lock() == before


def test_tracking_failure_is_reported_once_per_stage(clones):
    assert clones[1].output.count("MLflow failed, so this stage is kept") == len(TRACKED)
    assert "MLflow failed" not in clones[0].output


def test_repro_logs_one_parent_and_a_child_per_stage(clones):
    runs = clones[0].runs()
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    parent = next(run for run in parents if run.data.tags["dvc.command"].endswith("dvc repro"))
    own = [run for run in children if run.data.tags["mlflow.parentRunId"] == parent.info.run_id]
    assert sorted(run.info.run_name for run in own) == sorted(TRACKED)
    assert {run.info.status for run in [parent, *own]} == {"FINISHED"}
    ids = {run.info.run_name: run.info.run_id for run in own}
    assert sorted(stages_of(parent)) == sorted([stage, "run", ids[stage]] for stage in TRACKED)
    trained = next(run for run in own if run.info.run_name == "train_unet")
    metrics = json.loads((clones[0].folder / "reports/train_unet/metrics.json").read_text())
    logged = {key: trained.data.metrics[key] for key in ("train/loss", "eval/loss", "model/parameters")}
    assert list(logged.values()) == pytest.approx([metrics[k] for k in ("train_loss", "eval_loss", "parameters")])
    assert parent.data.metrics == json.loads((clones[0].folder / "metrics.json").read_text())
    assert parent.data.params["train_unet.unet.channels"] == "16"  # not the committed value
    assert (parent.data.params["seed"], parent.data.params["processes"]) == ("0", "1")  # one, not null
    assert "bound.batch_size" not in parent.data.params
    assert trained.data.params["train_unet.unet.channels"] == "16"
    assert "processes" not in trained.data.params  # it changes no result
    assert "processes" not in clones[0].lock()["train_unet"]["params"]["params.yaml"]


def stages_of(parent):
    """The rows of a pipeline's table of stages."""
    path = Path(urlsplit(parent.info.artifact_uri).path, "stages.json")
    return json.loads(path.read_text())["data"]


def test_second_repro_runs_no_stages(clones):
    assert stages_run(clones[0].run("dvc", "repro")) == []


def test_dvc_metrics_and_plots_show_results(clones):
    shown = clones[0].run("dvc", "metrics", "show")
    header, values = (line.split() for line in shown.splitlines())
    assert dict(zip(header, values, strict=True))["Path"] == "metrics.json"
    assert {"auc", "recall", "bits_dim", "loss"} < set(header)
    assert max(map(len, shown.splitlines())) <= 120
    clones[0].run("dvc", "plots", "show")
    page = (clones[0].folder / "dvc_plots/index.html").read_text()
    titles = ("tiny diffuser on gradients", "U-Net on images", "held-out loss by timestep")
    for text in (*titles, "train_loss", "eval_loss", "unet_samples.png"):
        assert text in page


def test_stages_import_only_planned_or_neutral_modules(clones):
    """Besides those: what the runner imports for stages with a device, and the topics that render.py declares."""
    clone, run = clones[1], {"ddpm.images", "ddpm.run.compute", "ddpm.run.files", "ddpm.run.seeding"}
    is_package = {path.parent for path in (clone.folder / "src/ddpm").rglob("__init__.py")}
    for stage in TRACKED:
        modules = json.loads(Path(clone.environment["RECORD_TO"], f"{stage}.json").read_text())
        listed = json.loads((clone.folder / f"plan/{stage}.json").read_text()).keys()
        if stage.startswith("render_"):
            assert f"ddpm.figures.topics.{stage.removeprefix('render_')}" in listed or stage == "render_page"
            continue
        used = {module for module in modules if clone.folder / "src" / module.replace(".", "/") not in is_package}
        assert {module for module in used - listed - run if not is_neutral(module)} == set(), stage
        assert f"stages/{stage}.py" in listed or f"stages/{stage.partition('_')[0]}.py" in listed


def change(clone, name, old, new):
    """Replace text in a file of a clone, and return the old contents."""
    text = (clone.folder / name).read_text()
    assert old in text
    (clone.folder / name).write_text(text.replace(old, new, 1))
    return text


def test_only_functional_code_changes_invalidate_their_users(clones):
    clone = clones[1]
    for name, old, new in (
        ("src/ddpm/training/loop.py", '"""', '"""Well: '),
        ("src/ddpm/training/divergence.py", "training diverged", "training has diverged"),
        ("src/ddpm/diffusion/schedule.py", "\n\n\n", "\n\n\n# A comment.\n"),
        ("src/ddpm/run/tracking/record.py", "PREVIEW_PIXELS = 256", "PREVIEW_PIXELS = 128"),
        ("src/ddpm/run/resume/context.py", "SHARE = 0.01", "SHARE = 0.02"),
        ("stages/train.py", '"""Stage', '"""The stage'),
    ):
        change(clone, name, old, new)
    users = {
        "src/ddpm/figures/topics/unet.py": {"render_unet", "render_page"},
        "src/ddpm/exact/quality.py": {"evaluate_tiny", "study_samplers"},
    }
    before = {name: change(clone, name, "\n\n\n", "\n\n\nMORE = 1\n") for name in users}
    clone.run("dvc", "repro", "check")
    assert set(json.loads(clone.run("dvc", "status", "dvc.yaml", "--json"))) == set().union(*users.values())
    for name, text in before.items():
        (clone.folder / name).write_text(text)
    assert stages_run(clone.run("dvc", "repro")) == ["check"]  # the cosmetic changes remain


def test_param_changes_rerun_only_affected_stages(clones):
    clone = clones[0]
    repro = "env", f"MLFLOW_TRACKING_URI={NOWHERE}", "dvc", "repro"
    sampled = {"sample_tiny", "evaluate_tiny", "render_tiny", "render_exact", "summary"}
    for changed, stages in (
        (
            {"sample": {"tiny": {"n_samples": 43}}, "render_data": {"n_gradients": 9}},
            {*sampled, "render_data", "render_page"},
        ),
        (
            {"sample": {"tiny": {"n_samples": 42}}, "render_data": {"n_gradients": 16}}
            | {"checkpoint_seconds": 7, "processes": 2},
            set(),
        ),
    ):
        write_params(clone.folder, changed)
        assert set(stages_run(clone.run(*repro))) == {"check", *stages}


def test_temporary_experiment_is_tracked_as_its_own_run(clones):
    clone = clones[0]
    clone.commit()
    before = {run.info.run_id for run in clone.runs()}
    clone.run("dvc", "exp", "run", "--temp", "--name", "finer", "-S", "train_tiny.epochs=1")
    table = clone.run("dvc", "exp", "show", "--csv")
    assert "finer" in table
    assert "train_tiny.epochs" in table
    new = [run for run in clone.runs() if run.info.run_id not in before]
    parents = [run for run in new if "mlflow.parentRunId" not in run.data.tags]
    assert [run.info.run_name for run in parents] == ["finer"]
    children = {run.info.run_name: run for run in new if "mlflow.parentRunId" in run.data.tags}
    assert set(children) == {
        *("train_tiny", "sample_tiny", "evaluate_tiny", "render_tiny", "render_exact", "render_page", "summary")
    }
    assert children["train_tiny"].data.params["train_tiny.epochs"] == "1.0"
    first = {run.info.run_name: run.info.run_id for run in clone.runs()}  # the newest comes first
    lineage = {stage: made_by for stage, *made_by in stages_of(parents[0])}
    assert lineage == {
        stage: ["run", children[stage].info.run_id] if stage in children else ["restored", first[stage]]
        for stage in TRACKED
    }
    params = parents[0].data.params
    assert (params["train_tiny.epochs"], "processes" in params) == ("1", False)  # which is as committed
    assert not any(clone.folder.glob(".dvc/tmp/exps/standalone/tmp*/mlflow.db"))
    beside = clone.run("env", "PYTHONPATH=src", "python", "-m", "ddpm.compare")
    rows = {line.split()[0]: line.split()[1:] for line in beside.splitlines()[1:]}
    assert beside.splitlines()[0].split()[::2] == ["workspace", "finer"]
    assert rows["train_tiny.epochs"] == ["2", "2", "1"]
    assert float(rows["minutes"][2]) > 0
    assert max(map(len, beside.splitlines())) <= 120


def test_failed_experiment_prints_command_that_restores_files(clones):
    clone = clones[0]
    clone.commit()
    before = clone.files()
    changes = "train_tiny.epochs=1", "data.name=fashion_mnist", "data.path=gone"  # which no check detects
    output = clone.run("dvc", "exp", "run", *(word for change in changes for word in ("-S", change)), status=255)
    assert "data.path is" in output
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("to go back")]
    again = clone.run("sh", "-c", line.partition(": ")[2])
    assert stages_run(again) in ([], ["check"])  # the rest comes from DVC's cache
    assert clone.files() == before
    assert clone.run("git", "status", "--short") == ""


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ((), "params.yaml: train_unet.chanels is not a parameter; check its spelling"),
        (
            ("exp", "run", "-S", "sample.tiny.n_steps=26"),
            "sample.tiny.n_steps is 26; train_tiny.max_steps is 25, so sampler ancestral takes 1 to 25",
        ),
    ],
)
def test_invalid_params_stop_pipeline_before_any_work(clones, command, message):
    clone = clones[1]
    params = clone.folder / "params.yaml"
    kept, before = params.read_text(), clone.files()
    if not command:
        write_params(clone.folder, {"train_unet": {"chanels": 3}})
    try:
        output = clone.run("dvc", *(command or ["repro"]), status=255)
        written = load_yaml(params)
    finally:
        params.write_text(kept)
    assert message in output
    assert not command or written == load_yaml(params)  # what -S wrote is taken back
    assert "Traceback" not in output
    assert stages_run(output) == ["check"]
    assert clone.files() == before


def test_unwritable_and_damaged_files_are_reported(clones):
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
