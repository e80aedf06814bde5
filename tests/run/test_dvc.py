"""dvc.yaml against the truth: each stage runs with nothing but what it declares, and declares nothing unused."""

import json
import shutil
import subprocess

import pytest
from project import NOWHERE, REPO, STAGES, TINY, copy_project, write_params
from ruamel.yaml import YAML

# Runs a stage and then tells which of the folder's files it imported and which params it looked at.
RECORDER = """
import atexit, json, os, runpy, sys, types
from pathlib import Path
import ddpm.run.params

select, looked_at = ddpm.run.params.select, set()

class Watched:
    def __init__(self, params, prefix=""):
        self.__dict__.update(params=params, prefix=prefix)
    def __getattr__(self, name):
        if name == "model_dump":
            return self.params.model_dump
        value = getattr(self.params, name)
        if type(value).__name__ == "Sample":
            return Watched(value, f"{name}.")
        looked_at.add(self.prefix + name)
        return value

ddpm.run.params.select = lambda params, keys: Watched(select(params, keys))

def record():
    # vars(), for a lazy module would import itself when asked for an attribute.
    names = [vars(m).get("__file__") for m in list(sys.modules.values()) if isinstance(m, types.ModuleType)]
    files = [Path(name).absolute() for name in names if name]
    modules = sorted(f.relative_to(Path.cwd()).as_posix() for f in files if f.is_relative_to(Path.cwd()))
    Path(os.environ["RECORD_TO"]).write_text(json.dumps({"modules": modules, "params": sorted(looked_at)}))

atexit.register(record)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, fashion_mnist_raw, stage_environment):
    """The project with each stage run in a sandbox of its declared deps: {stage: (declared, used)}."""
    project = tmp_path_factory.mktemp("project")
    copy_project(project)
    write_params(project, {**TINY, "download_fashion_mnist": {"folder": str(fashion_mnist_raw)}})
    declared = YAML(typ="safe").load(project / "dvc.yaml")["stages"]
    (project / "recorder.py").write_text(RECORDER)
    results = {}
    for stage in STAGES:
        sandbox = tmp_path_factory.mktemp(stage)
        names = [*declared[stage]["deps"], "params.yaml", "dvc.yaml"]
        names += [str(path.relative_to(project)) for path in project.glob("src/**/__init__.py*")]
        for name in names:
            (sandbox / name).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (project / name).is_dir() else shutil.copy
            copy(project / name, sandbox / name)
        script = declared[stage]["cmd"].split("python ")[1].split()
        report = project / f"{stage}.json"
        done = subprocess.run(
            ["python", "-P", project / "recorder.py", *script],
            cwd=sandbox,
            env=stage_environment | {"PYTHONPATH": "src", "MLFLOW_TRACKING_URI": NOWHERE, "RECORD_TO": str(report)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert report.exists(), done.stderr
        results[stage] = (declared[stage], json.loads(report.read_text()))
        for out in outputs(declared[stage]):
            copy = shutil.copytree if (sandbox / out).is_dir() else shutil.copy
            (project / out).parent.mkdir(parents=True, exist_ok=True)
            copy(sandbox / out, project / out)
    return results


def outputs(stage: dict) -> list[str]:
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


@pytest.mark.parametrize("stage", STAGES)
def test_declared_modules_are_the_imported_ones(finished, stage):
    declared, used = finished[stage]
    modules = {dep for dep in declared["deps"] if dep.startswith("src/") and dep.endswith(".py")}
    assert {m for m in used["modules"] if m.startswith("src/") and not m.endswith("__init__.py")} == modules


@pytest.mark.parametrize("stage", STAGES)
def test_declared_params_are_the_ones_looked_at(finished, stage):
    declared, used = finished[stage]
    assert used["params"] == sorted(declared["params"])


def test_package_files_hold_nothing_that_could_change_a_result():
    # They are not declared: a new public name must not train every model anew.
    for path in REPO.glob("src/ddpm/*/__init__.py"):
        assert path.read_text() == ""
    statements = (REPO / "src/ddpm/__init__.py").read_text().partition('"""\n\n')[2]
    assert statements.split("\n\n") == [
        "import lazy_loader",
        "__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)\n",
    ]
