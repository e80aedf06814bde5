"""README and docs are correct: links, commands, parameters, paths, tables and the diagram."""

import json
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from pkgutil import resolve_name
from tomllib import loads
from typing import Any, get_args

import pytest
from dvc.cli.parser import get_main_parser
from pages import (
    CHANGELOG,
    LINK,
    PAGES,
    README,
    SPAN,
    blocks,
    commands,
    every_page,
    pipelines,
    prose,
    slugs,
    spans,
    stages,
    tables,
)
from project import REPO

from ddpm import compare
from ddpm.conditioning.conditioning import CONDITIONINGS
from ddpm.diffusion.loss import Weighting
from ddpm.diffusion.posterior import Prediction
from ddpm.run.dvc import CHECK, needs
from ddpm.run.yaml import load_yaml
from ddpm.sampling.sampler import SAMPLERS

RECIPES = {path.stem for path in (REPO / "recipes").glob("*.yaml")}
PATH = re.compile(r"(?:\.ci|benchmarks|docs|doors|recipes|reports|src|stages|tests|data|models|samples)/[\w./-]*")


@every_page
def test_links_resolve(page):
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), target
        assert not anchor or anchor in slugs(other), target


def test_every_page_is_reachable_from_readme():
    reached, waiting = set[Path](), [README]
    while waiting:
        if (page := waiting.pop()) not in reached:
            reached.add(page)
            targets = (target.partition("#")[0] for target in LINK.findall(prose(page)))
            waiting += [(page.parent / target).resolve() for target in targets if target.endswith(".md")]
    assert set(PAGES) <= reached


@every_page
def test_commands_exist(page):
    makefile = (REPO / "Makefile").read_text()
    options = "".join(path.read_text() for path in (REPO / "benchmarks").rglob("*.py"))
    for words in commands(page):
        match words:
            case ["make", *targets]:
                for target in targets:
                    assert "=" in target or re.search(rf"^{target}:", makefile, re.MULTILINE), words
            case ["python", "-m", "ddpm.recipes", recipe]:
                assert recipe in RECIPES, words
            case ["python", "-m", module, *others]:
                spec = find_spec(module)
                assert spec, words
                assert spec.origin, words
                known = Path(spec.origin).read_text() + options
                assert all(f'"{word}"' in known for word in others if word.startswith("--")), words
            case ["python", path, *_]:
                assert (REPO / path).is_file(), words
            case ["pytest", *others]:
                assert all((REPO / word).exists() for word in others if "/" in word), words
            case ["dvc", *others]:
                asked = get_main_parser().parse_args(others)
                if others[0] == "repro" or others[:2] == ["exp", "run"]:
                    there = stages().keys() | set(re.findall(r"^# stages/(\w+)\.py$", page.read_text(), re.MULTILINE))
                    others = {target for target in asked.targets if not (REPO / target).is_file()}
                    assert there >= others, words


def keys(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield prefix + key
        if isinstance(value, Mapping):
            yield from keys(value, f"{prefix}{key}.")


@every_page
def test_params_paths_and_modules_in_prose_exist(page):
    own = pipelines(page)
    params = {key for pipeline in own for key in keys(load_yaml(pipeline / "params.yaml"))}
    made = {path.as_posix() for each in own for stage, *_ in stages(each).values() for path in stage.outputs}
    for door in REPO.glob("doors/*/dvc.yaml"):  # as other pages name its outputs
        outputs = (path for stage, *_ in stages(door.parent).values() for path in stage.outputs)
        made |= {(door.parent / path).relative_to(REPO).as_posix() for path in outputs}
    made |= {compare.PAGE.as_posix()}
    made |= {f"{parent}/" for path in made for parent in Path(path).parents}
    for code in spans(page):
        if re.fullmatch(r"[a-z_]+(\.\w+)+", code) and code.partition(".")[0] in params:
            assert code in params, code
        elif re.fullmatch(r"ddpm(\.\w+)+", code):
            assert resolve_name(code), code
        elif PATH.fullmatch(code) and not re.search("[A-Z]{4}", code):
            assert any((pipeline / code).exists() for pipeline in own) or code in made, code


def test_readme_lists_every_subpackage():
    rooms = {f"src/ddpm/{path.name}/" for path in (REPO / "src/ddpm").iterdir() if any(path.glob("*.py"))}
    assert rooms <= set(spans(README))


def null_and(names: Any) -> list[str]:
    return ["null", *names]


@pytest.mark.parametrize(
    ("page", "column", "names"),
    [
        ("docs/samplers.md", 0, list(SAMPLERS)),
        ("docs/recipes.md", 0, [*RECIPES - {"ablation"}]),
        ("docs/recipes.md", 0, null_and(CONDITIONINGS)),
        ("docs/recipes.md", 1, [*get_args(Prediction), *get_args(Weighting), "consistency", "true"]),
        ("docs/pipeline.md", 0, list(load_yaml(REPO / "dvc.yaml")["stages"])),
    ],
)
def test_tables_have_a_row_for_each_name(page, column, names):
    found = [sorted(code for row in table[2:] for code in SPAN.findall(row[column])) for table in tables(REPO / page)]
    assert sorted(names) in found


def test_readme_counts_the_verdicts_of_every_door():
    counted = {}
    for path in REPO.glob("benchmarks/results/claims/*.json"):
        verdicts = [each["result"]["verdict"] for each in json.loads(path.read_text())["claims"]]
        confirmed, turned, not_confirmed = map(verdicts.count, ("confirmed", "reversed", "not confirmed"))
        counts = f"{confirmed} of {len(verdicts)} confirmed, {turned} reversed, {not_confirmed} not confirmed"
        counts += f", {left} not run yet" if (left := verdicts.count("not run yet")) else ""
        counted[path.stem] = counts
    (table,) = (table for table in tables(README) if table[0][0] == "door")
    assert {re.match(r"\[(\w+)\]", row[0])[1]: row[2] for row in table[2:]} == counted


def test_every_dependency_is_documented():
    project = loads((REPO / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    rows = [row[0] for table in tables(REPO / "docs/dependencies.md") for row in table[2:]]
    assert sorted(re.match(r"[\w.-]+", line)[0].lower() for line in wanted) == sorted(
        package.lower() for row in rows for package in row.split(", ")
    )


def test_changelog_maps_removed_keys_to_existing_ones():
    params = set(keys(load_yaml(REPO / "params.yaml")))
    (table,) = (table for table in tables(CHANGELOG) if table[0][0] == "old key")
    for old, new, *_ in table[2:]:
        assert not params & set(SPAN.findall(old)), old
        assert new == "-" or params >= set(SPAN.findall(new)) != set(), new


@pytest.mark.parametrize("page", ["README.md", "docs/pipeline.md"])
def test_diagram_matches_the_pipeline(page):
    """Its arrows are the transitive reduction of the deps, without `check`."""
    before = {stage: set(others) - {CHECK} for stage, others in needs(stages()).items() if stage != CHECK}

    def ancestors(stage: str) -> set[str]:
        return before[stage].union(*(ancestors(other) for other in before[stage]))

    arrows = {(o, s) for s in before for o in before[s] if not any(o in ancestors(b) for b in before[s])}
    (diagram,) = blocks(REPO / page, "mermaid")
    drawn = set[tuple[str, str]]()
    for line in re.findall(r"^ +(.* --> .*)$", diagram, re.MULTILINE):
        nodes = [set(part.split(" & ")) for part in line.split(" --> ")]
        drawn |= {(a, b) for left, right in pairwise(nodes) for a in left for b in right}
    assert drawn == arrows
