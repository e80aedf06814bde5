"""Every folder of doors/ is a pipeline: declared, checked, reproducible and resumable.

A new door needs only tests/doors/tiny/NAME.yaml: params with which each of its stages takes a second.
"""

import json
import runpy
import shutil
import subprocess
import sys
from contextlib import chdir
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from clone import FORKING_DVC
from project import REPO, make_small, write_params

from ddpm.errors import UserError
from ddpm.run.diagram import with_diagram
from ddpm.run.dvc import CHECK, declared_stages, diagram, dvc_yaml
from ddpm.run.files import md5
from ddpm.run.params import flatten
from ddpm.run.plan import code_digests
from ddpm.run.resume.context import Resume
from ddpm.run.stage import run_stage
from ddpm.run.yaml import dump_yaml, load_yaml

DOORS = sorted(path.parent.name for path in REPO.glob("doors/*/stages"))
MOST_KILLS = 3  # per stage

each_door = pytest.mark.parametrize("door", DOORS)


def stages(door):
    with chdir(REPO / "doors" / door):
        return declared_stages()


@each_door
def test_dvc_yaml_and_diagram_are_up_to_date(door):
    folder, declared = REPO / "doors" / door, stages(door)
    with chdir(folder):
        written = dvc_yaml(declared)
    text, page = (folder / "dvc.yaml").read_text(), (folder / "README.md").read_text()
    assert text.partition("stages:\n")[2] == written.removeprefix("stages:\n"), "run `make deps`"
    assert diagram(declared) in page
    assert with_diagram(page, diagram(declared)) == page, "run `make deps`"


@each_door
def test_door_is_documented_and_has_tiny_params(door):
    assert f"dvc repro doors/{door}/dvc.yaml" in (REPO / f"doors/{door}/README.md").read_text()
    assert f"doors/{door}" in (REPO / "docs/doors.md").read_text()
    assert (REPO / f"tests/doors/tiny/{door}.yaml").exists()


@each_door
def test_stages_depend_on_their_plan_and_their_own_params(door):
    keys = {"seed", "device", "precision"}
    for name, entry in load_yaml(REPO / f"doors/{door}/dvc.yaml")["stages"].items():
        assert name == CHECK or entry["deps"][0] == f"plan/{name}.json"
        assert entry["cmd"].startswith("PYTHONPATH=../../src python stages/")
        assert set(entry.get("params", [])) <= keys | {stages(door)[name].stage.key or name}


@each_door
def test_stage_deps_are_outputs_or_existing_files(door):
    """So `dvc repro` makes what is missing: files of other pipelines are outputs there."""
    made = {}
    for pipeline in (REPO, *(REPO / "doors" / other for other in DOORS)):
        for entry in load_yaml(pipeline / "dvc.yaml")["stages"].values():
            for out in (*entry.get("outs", ()), *entry.get("plots", ()), *entry.get("metrics", ())):
                made[(pipeline / (out if isinstance(out, str) else next(iter(out)))).resolve()] = pipeline.resolve()
    written = {pipeline / out.relative_to(pipeline).parts[0] for out, pipeline in made.items()}
    for name, declared in stages(door).items():
        for dep in declared.stage.deps if name != CHECK else ():
            path = (REPO / "doors" / door / dep).resolve()
            kept = path.is_file() and not written & {*path.parents}  # not an output that an older version left
            assert path in made or kept, f"{name}: {dep} is no stage's output"


@pytest.fixture(scope="module")
def clone(tmp_path_factory, fashion_mnist_raw, stage_environment):
    """A clone with small params, in which dvc has run every door and its deps in the main pipeline."""
    folder = tmp_path_factory.mktemp("doors") / "clone"
    folder.mkdir()
    make_small(folder, fashion_mnist_raw)
    for door in DOORS:
        write_params(folder / "doors" / door, load_yaml(REPO / f"tests/doors/tiny/{door}.yaml"))
    run(folder, stage_environment, "git", "add", "-A")
    run(folder, stage_environment, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "small")
    (folder / ".git/dvc").write_text(FORKING_DVC)
    targets = [f"doors/{door}/dvc.yaml" for door in DOORS]
    run(folder, stage_environment | {"PYTHONPATH": str(folder / "src")}, sys.executable, ".git/dvc", *targets)
    run(folder, stage_environment, "dvc", "commit", "--force", "--with-deps", *targets)
    run(folder, stage_environment, "git", "add", "-A")  # as dvc repro does with its lock files
    return folder


def run(folder, environment, *command, status=0):
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1200
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def outputs(folder, door):
    """The hash of each file that a door's stages have written, from dvc.lock."""
    lock = load_yaml(folder / f"doors/{door}/dvc.lock")["stages"]
    return {stage: {out["path"]: out["md5"] for out in entry["outs"]} for stage, entry in lock.items()}


@each_door
def test_repro_runs_every_stage_and_locks_its_outputs(door, clone):
    assert outputs(clone, door).keys() == stages(door).keys()
    for name, declared in stages(door).items():
        assert {*map(str, declared.stage.outputs)} == {*outputs(clone, door)[name]} or name == CHECK


def test_second_repro_runs_nothing(clone, stage_environment):
    before = {door: outputs(clone, door) for door in DOORS}
    said = run(clone, stage_environment, "dvc", "repro", *(f"doors/{door}/dvc.yaml" for door in DOORS))
    assert "Running stage" not in said
    assert {door: outputs(clone, door) for door in DOORS} == before
    assert "doors" not in run(clone, stage_environment, "dvc", "stage", "list", "--name-only")


def test_mlflow_runs_are_named_after_the_door(clone):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{clone / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name("ddpm").experiment_id], max_results=1000)
    expected = {f"{door}.{name}" for door in DOORS for name in stages(door) if name != CHECK}
    assert expected <= {run.info.run_name for run in found}
    [parent] = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    assert {f"doors/{door}/params.yaml:seed" for door in DOORS} <= parent.data.params.keys()


@each_door
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_killed_stages_resume_to_the_same_bits(door, clone, tmp_path, monkeypatch):
    """Stages run in this process, and each is killed up to `MOST_KILLS` times once its state is saved."""
    folder = tmp_path / "copy"
    ignored = shutil.ignore_patterns(".git", "mlflow.db", "mlartifacts", ".resume", "cache", "tmp")
    shutil.copytree(clone, folder, ignore=ignored, symlinks=True)
    monkeypatch.chdir(folder / "doors" / door)
    write_params(Path(), {"checkpoint_seconds": 0})
    killed, threads = {}, torch.get_num_threads()
    for name, declared in stages(door).items():
        if name == CHECK:
            continue
        for path in declared.stage.outputs:
            path.unlink()
        monkeypatch.setattr("sys.argv", [str(declared.script), name])
        killed[name] = until_it_ends(name, replace(declared.stage, tracked=False))
        made = {str(path): md5(path) for path in declared.stage.outputs}
        assert made == outputs(clone, door)[name], name
        assert killed[name] or not declared.stage.resumes, name
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    assert not [path for path in (folder / ".resume").glob("*") if path.suffix == ".safetensors"]


class Kill(BaseException):
    """Not caught by `except Exception`."""


def until_it_ends(name, stage):
    """Run a stage to its end, and return how often it was killed."""
    kills, real = 0, Resume.after_step

    def die_after(self, state, last=False):
        nonlocal kills
        real(self, state, last)
        if kills < MOST_KILLS and not last:
            kills += 1
            raise Kill

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Resume, "after_step", die_after)
        while True:
            try:
                run_stage(name, stage)
            except Kill:
                continue
            return kills


@each_door
def test_plan_lists_the_code_that_a_stage_imports(door, clone):
    """Including imports from the package two folders up."""
    with chdir(clone / "doors" / door):
        for name, declared in stages(door).items():
            if name != CHECK:
                listed = json.loads(Path(f"plan/{name}.json").read_text())
                assert code_digests(declared.script).items() <= listed.items()
                assert len(listed) > 1


@each_door
def test_check_rejects_bad_values_of_every_key(door, clone):
    """For each key of params.yaml, in the door's folder: its rules may read other files."""
    with chdir(clone / "doors" / door):
        values = load_yaml(Path("params.yaml"))
        stage, path = stages(door)[CHECK].stage, Path("params.yaml")
        kept = path.read_text()
        try:
            for key, _ in flatten(values):
                path.write_text(dump_yaml(changed(values, key.split("."), [[]])))
                with pytest.raises(UserError, match=rf"^doors/{door}/params\.yaml: {key}(\.0)?\b"):
                    run_stage(CHECK, stage)
        finally:
            path.write_text(kept)


def changed(values, keys, value):
    values = deepcopy(values)
    node = values
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    return values


@each_door
def test_check_reports_unknown_key_and_writes_nothing(door, tmp_path, monkeypatch, capsys):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "src").symlink_to(REPO / "src")
    shutil.copy(REPO / "params.yaml", tmp_path)
    folder = shutil.copytree(REPO / "doors" / door, tmp_path / "doors" / door)
    for made in ("plan", "data", "models", "samples", "reports"):
        shutil.rmtree(folder / made, ignore_errors=True)
    before = {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
    text = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(f"{text}\nsede: 1\n")
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["stages/check.py"])
    with pytest.raises(SystemExit, match=r"^2$"):
        runpy.run_path("stages/check.py", run_name="__main__")
    assert capsys.readouterr() == (
        "",
        f"check: doors/{door}/params.yaml: sede is not a parameter; check its spelling\n",
    )
    assert {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts} == before


def test_exp_run_restores_bad_params_and_runs_good_ones(clone, stage_environment):
    door = DOORS[0]
    commit = ("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--allow-empty", "-qam", "ran")
    run(clone, stage_environment, *commit)
    file = f"doors/{door}/params.yaml"
    key = next(key for key, _ in flatten(load_yaml(clone / file)) if "." in key)
    asked = ("dvc", "exp", "run", f"doors/{door}/dvc.yaml", "-S")
    said = run(clone, stage_environment, *asked, f"{file}:{key}=[[]]", status=255)
    assert f"check: {file}: {key}" in said
    assert f"{file} is restored; nothing has run" in said
    assert "Traceback" not in said
    assert run(clone, stage_environment, "git", "status", "--short") == ""
    said = run(clone, stage_environment, *asked, f"{file}:checkpoint_seconds=30", "--name", "thirty")
    assert "Ran experiment(s): thirty" in said
