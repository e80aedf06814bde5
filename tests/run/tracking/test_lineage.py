"""A pipeline's run records which run made each stage's outputs, also where DVC restored them."""

from contextlib import suppress
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from runs import parent_id, runs, under_dvc

from ddpm.errors import UserError
from ddpm.run.files import md5
from ddpm.run.tracking.lineage import outputs_of_stages
from ddpm.run.tracking.outbox import tracking_uri
from ddpm.run.tracking.record import stage_run
from ddpm.run.yaml import dump_yaml, load_yaml

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's use of SQLAlchemy

# Each stage reads what the previous one wrote. `c` also has a param.
STAGES = {"check": "plan/p.json", "a": "a.txt", "b": "b.txt", "c": "c.txt"}
READS = {"check": [], "a": ["plan/p.json"], "b": ["a.txt"], "c": ["b.txt"]}


@pytest.fixture(autouse=True)
def pipeline(repository):
    Path("plan").mkdir()
    Path("params.yaml").write_text("c: {lr: 1.0e-3}\n")
    Path("dvc.yaml").write_text(dump_yaml({"stages": {name: {"cmd": "true"} for name in STAGES}}))
    for stage, out in STAGES.items():
        write(stage, out)
    return repository


def write(stage, text):
    """What dvc does after a stage: its outputs exist, and dvc.lock records them."""
    Path(STAGES[stage]).write_text(text)
    lock = Path("dvc.lock")
    entries = load_yaml(lock)["stages"] if lock.exists() else {}
    deps = [{"path": path, "md5": md5(Path(path))} for path in READS[stage]]
    outs = [{"path": STAGES[stage], "md5": md5(Path(STAGES[stage]))}]
    params = {"params": {"params.yaml": {"c.lr": load_yaml(Path("params.yaml"))["c"]["lr"]}}} if stage == "c" else {}
    entries[stage] = {"cmd": "true", "deps": deps, "outs": outs, **params}
    lock.write_text(dump_yaml({"schema": "2.0", "stages": {**entries, "gone": {"cmd": "true"}}}))


def run(stage, text):
    """Run a stage that writes `text`."""
    with stage_run(stage, {}) as log:
        Path(STAGES[stage]).write_text(text)
        log.log_artifact(Path(STAGES[stage]))
    write(stage, text)


def table(parent):
    """The table of a pipeline's stages, as read by MLflow itself, which searches in its global store."""
    mlflow.set_tracking_uri(tracking_uri())
    found = MlflowClient(tracking_uri()).load_table(parent.info.experiment_id, "stages.json", [parent.info.run_id])
    return {row.stage: (row.state, row.run) for row in found.itertuples()}


def test_restored_stage_links_to_run_that_made_its_outputs(monkeypatch):
    """a is made twice, b and c in two ways. Then dvc takes the first b from its cache and runs only c."""
    for key, texts in (("1", ("a", "b 1", "c 1")), ("2", ("a", "b 2", "c 2"))):
        under_dvc(monkeypatch, key)
        for text in texts:
            run(text[0], text)
    under_dvc(monkeypatch, "3")
    write("b", "b 1")
    run("c", "c 3")
    parents, children = runs()
    of = [
        {child.info.run_name: child.info.run_id for child in children if parent_id(child) == parent.info.run_id}
        for parent in parents
    ]
    for parent, own in zip(parents[:2], of, strict=False):
        assert table(parent) == {stage: ("run", own[stage]) for stage in "abc"}
    assert table(parents[2]) == {"a": ("restored", of[0]["a"]), "b": ("restored", of[0]["b"]), "c": ("run", of[2]["c"])}


def test_outputs_of_unknown_runs_are_restored_without_run(monkeypatch):
    under_dvc(monkeypatch, "1")
    run("b", "b 1")
    [parent], [child] = runs()
    assert table(parent) == {"a": ("restored", ""), "b": ("run", child.info.run_id), "c": ("out of date", "")}


def test_stages_that_never_ran_are_out_of_date():
    entries = load_yaml(Path("dvc.lock"))["stages"]
    Path("dvc.lock").write_text(dump_yaml({"stages": {"check": entries["check"]}}))
    assert outputs_of_stages("a", {"a.txt": "1"}) == {"a": {"a.txt": "1"}, "b": None, "c": None}


def test_failed_stage_makes_dependents_out_of_date(monkeypatch):
    under_dvc(monkeypatch, "1")
    with suppress(UserError), stage_run("a", {}) as log:
        log.log_artifact(Path("a.txt"))
        raise UserError("something is wrong")
    [parent], [child] = runs()
    assert table(parent) == {"a": ("run", child.info.run_id), "b": ("out of date", ""), "c": ("out of date", "")}


@pytest.mark.parametrize(
    ("stage", "own", "text", "out_of_date"),
    [
        ("a", {"a.txt": md5}, "", set()),  # the same again
        ("a", {"a.txt": "another"}, "", {"b", "c"}),
        ("b", {"b.txt": md5}, "c: {lr: 2.0e-3}\n", {"c"}),
        ("b", {"b.txt": md5}, "c: {}\n", {"c"}),
        ("c", {"c.txt": "another"}, "c: {lr: 2.0e-3}\n", set()),
    ],
)
def test_stage_is_out_of_date_if_inputs_or_params_changed(stage, own, text, out_of_date):
    Path("params.yaml").write_text(text or Path("params.yaml").read_text())
    own = {path: digest if isinstance(digest, str) else digest(Path(path)) for path, digest in own.items()}
    found = outputs_of_stages(stage, own)
    assert list(found) == ["a", "b", "c"]
    assert found[stage] == own
    assert {name for name, outputs in found.items() if outputs is None} == out_of_date


def test_door_includes_stages_of_main_pipeline(pipeline, monkeypatch):
    door = pipeline / "doors/toy"
    door.mkdir(parents=True)
    (door / "params.yaml").write_text("{}\n")
    (door / "dvc.yaml").write_text(dump_yaml({"stages": {"sample": {}, "draw": {}}}))
    c, sample = {"path": "../../c.txt", "md5": md5(Path("c.txt"))}, {"path": "samples", "md5": "1"}
    entries = {"sample": {"deps": [c], "outs": [sample]}, "draw": {"deps": [sample], "outs": []}}
    (door / "dvc.lock").write_text(dump_yaml({"stages": entries}))
    monkeypatch.chdir(door)
    found = outputs_of_stages("toy.draw", {"doors/toy/picture": "2"})
    assert list(found) == ["a", "b", "c", "toy.sample", "toy.draw"]
    assert found["toy.sample"] == {"doors/toy/samples": "1"}
    assert found["c"] == {"c.txt": c["md5"]}
    (door / "../../params.yaml").write_text("c: {lr: 2.0e-3}\n")
    assert outputs_of_stages("toy.draw", {"doors/toy/picture": "2"})["toy.sample"] is None
