"""dvc.yaml matches what scripts declare, and stages wait for what they read."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from project import REPO
from ruamel.yaml import YAML
from whole import VALUES, check, stages

from ddpm.errors import UserError
from ddpm.run.diagram import BEGIN, END, with_diagram
from ddpm.run.dvc import (
    CHECK,
    WITH_DIAGRAM,
    Declared,
    declared_stages,
    diagram,
    dvc_yaml,
    needs,
    sections,
    used_by_name,
    write,
)
from ddpm.run.dvc import main as main_of_deps
from ddpm.run.params import Section
from ddpm.run.stage import Stage
from ddpm.run.yaml import load_yaml

DECLARED = load_yaml(REPO / "dvc.yaml")


def main(_):
    """A stage that does nothing."""


class Own(Section):
    n: int


def declare(folder, **scripts):
    """Write scripts of stages. `scripts` maps names to `STAGES`."""
    folder.mkdir(exist_ok=True)
    for name, declared in scripts.items():
        text = f"from ddpm.run.stage import Stage\n\n\ndef main(stage): ...\n\n\nSTAGES = {declared}\n"
        (folder / f"{name}.py").write_text(text)
    return declared_stages(folder)


def test_dvc_yaml_and_diagrams_are_up_to_date():
    text = (REPO / "dvc.yaml").read_text()
    assert text.partition("stages:\n")[2] == dvc_yaml(stages()).removeprefix("stages:\n"), "run `make deps`"
    for page in WITH_DIAGRAM:
        text = (REPO / page).read_text()
        assert diagram(stages()) in text
        assert with_diagram(text, diagram(stages())) == text, "run `make deps`"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "there is no stages/*.py here; run it at the top of the repository"),
        (["--help"], "the arguments are '--help'; there must be none"),
    ],
)
def test_main_rejects_arguments_and_folders_without_stages(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^{re.escape(said)}$"):
        main_of_deps(words)
    assert list(tmp_path.iterdir()) == []


def test_write_keeps_text_before_stages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    declare(Path("stages"), a='{"a": Stage(main, outs=["a.txt"])}')
    path = tmp_path / "dvc.yaml"
    path.write_text("# Ours.\nplots:\n  - a.csv:\n      x: t\n\nstages:\n  old:\n    cmd: true\n")
    assert write(path) == [path]
    assert path.read_text().startswith("# Ours.\nplots:\n  - a.csv:\n      x: t\n\nstages:\n  a:\n    cmd: ")
    assert load_yaml(path)["stages"].keys() == {"a"}
    assert write(path) == []
    path.unlink()
    assert write(path) == [path]
    assert load_yaml(path)["stages"].keys() == {"a"}


def test_diagram_in_page_omits_check_stage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check = '{"check": Stage(main, outs=["plan"])}'
    declare(Path("stages"), check=check, a='{"a": Stage(main, outs=["a.txt"]), "b": Stage(main, deps=["a.txt"])}')
    page = tmp_path / "page.md"
    page.write_text(f"# Ours.\n{BEGIN}{END}")
    write(tmp_path / "dvc.yaml", [page])
    assert page.read_text() == f"# Ours.\n{BEGIN}```mermaid\ngraph LR\n    a --> b\n```\n{END}"


def test_dvc_yaml_has_complete_stage_entries():
    files = {"outs": ["o"], "metrics": ["m"], "plots": ["p"]}
    stage = Stage(main, section=Own, key="own.part", deps=["d"], **files)
    found = {
        "check": Declared(Stage(main, general=(), deps=["src"], tracked=False), Path("stages/check.py"), True),
        "one": Declared(stage, Path("stages/s.py"), False),
        "two": Declared(Stage(main, general=("seed",)), Path("stages/t.py"), True),
    }
    plans = "plan/params.json", "plan/one.json", "plan/two.json"
    assert YAML(typ="safe").load(dvc_yaml(found))["stages"] == {
        "check": {
            "cmd": "PYTHONPATH=src python stages/check.py",
            "deps": ["src"],
            "outs": [{name: {"persist": True}} for name in plans],
        },
        "one": {
            "cmd": "PYTHONPATH=src python stages/s.py one",
            "deps": ["plan/one.json", "d"],
            "params": ["seed", "device", "precision", "own.part"],
            "outs": ["o"],
            "metrics": [{"m": {"cache": False}}],
            "plots": ["p"],
        },
        "two": {"cmd": "PYTHONPATH=src python stages/t.py", "deps": ["plan/two.json"], "params": ["seed"]},
    }
    assert sections(found) == {"own.part": Own}


def test_declared_stages_are_in_topological_order(tmp_path):
    found = declare(
        tmp_path / "stages",
        a='{"a": Stage(main, deps=["c.txt", "data"])}',
        b='{"b": Stage(main, outs=["b.txt"]), "d": Stage(main, deps=["b.txt"], plots=["d.csv"])}',
        c='{"c": Stage(main, deps=["d.csv"], outs=["c.txt"])}',
        check='{"check": Stage(main)}',
    )
    assert list(found) == ["check", "b", "d", "c", "a"]
    assert needs(found) == {"a": ["c", "check"], "b": ["check"], "c": ["check", "d"], "check": [], "d": ["b", "check"]}
    assert [declared.alone for declared in found.values()] == [True, False, False, True, True]


@pytest.mark.parametrize(
    ("scripts", "message"),
    [
        ({"a": "{}"}, r"a\.py: declares no stage; it needs a dict STAGES"),
        ({"a": '{"x": Stage(main)}', "b": '{"x": Stage(main)}'}, r"b\.py: stage x is declared in .*a\.py too"),
        (
            {"a": '{"a": Stage(main, outs=["f"])}', "b": '{"b": Stage(main, plots=["f"])}'},
            "f is an output of stages a and b; only one may write it",
        ),
        (
            {"a": '{"a": Stage(main, deps=["b"], outs=["a"]), "b": Stage(main, deps=["a"], outs=["b"])}'},
            "stages depend on each other: [ab] -> [ab] -> [ab]",
        ),
    ],
)
def test_invalid_declarations_are_rejected(scripts, message, tmp_path):
    with pytest.raises(UserError, match=message):
        declare(tmp_path / "stages", **scripts)


def test_used_by_name_includes_chosen_and_model_modules():
    params = check(VALUES | {"train_unet": VALUES["train_unet"] | {"conditioning": "clusters"}})
    run = {"ddpm.run.seeding", "ddpm.run.compute"}
    own, model = params.train_unet, {"ddpm.networks.architectures.unet", "ddpm.conditioning.kinds.clusters"}
    assert {*own.chosen_modules()} == model
    assert used_by_name("train_unet", stages(), params) == model | run
    sampler = {f"ddpm.sampling.samplers.{params.sample.unet.sampler}"}
    assert used_by_name("sample_unet", stages(), params) == sampler | model | run
    assert used_by_name("sample_tiny", stages(), params) & model == set()
    assert used_by_name("generate_gradients", stages(), params) == {"ddpm.run.seeding"}
    changed = replace(stages()["bound"].stage, entries=["ddpm.made.up"])
    more = {**stages(), "bound": stages()["bound"]._replace(stage=changed)}
    assert used_by_name("bound", more, params) == used_by_name("bound", stages(), params) | {"ddpm.made.up"}


def test_stages_depend_on_their_plan_and_own_params_only():
    for name, entry in DECLARED["stages"].items():
        assert name == CHECK or entry["deps"][0] == f"plan/{name}.json"
        assert not [dep for dep in entry["deps"] if dep.endswith(".py")]
        section = stages()[name].stage.key or name
        assert set(entry.get("params", [])) <= {"seed", "device", "precision", section}
    assert "checkpoint_seconds" not in json.dumps(DECLARED)


def test_sections_of_stages_match_params_file():
    keys = {key for key, value in VALUES.items() if isinstance(value, dict)} - {"sample"}
    assert sections(stages()).keys() == keys | {"sample.tiny", "sample.unet"}


def test_init_files_contain_only_lazy_loading():
    """They are in no plan, so that new public names retrain no model."""
    lazy = [
        "from types import FunctionType",
        "from typing import Any",
        "import lazy_loader",
        "_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)",
        "def __getattr__(name: str) -> Any:",
        "    found = _load(name)",
        "    if isinstance(found, FunctionType):",
        "        from ddpm.arguments import checked",
        "        found = globals()[name] = checked(found)",
        "    return found",
    ]
    for path in (REPO / "src/ddpm").rglob("__init__.py"):
        code = re.sub(r'""".*?"""', "", path.read_text(), flags=re.DOTALL).split("\n")
        assert [line for line in code if line] == (lazy if path.parent.name == "ddpm" else [])
