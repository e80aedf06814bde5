"""README and docs are correct: links, commands, parameters, paths, tables, the diagram and code blocks."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from pkgutil import resolve_name
from tomllib import loads
from typing import Any, get_args

import numpy as np
import pytest
from dvc.cli.parser import get_main_parser
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps
from mlflow import MlflowClient
from PIL import Image
from project import NOWHERE, REPO

from ddpm import compare
from ddpm.check import checked_params
from ddpm.conditioning.conditioning import CONDITIONINGS
from ddpm.diffusion.loss import Weighting
from ddpm.diffusion.posterior import Prediction
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.networks.checkpoint import save_model
from ddpm.networks.network import NETWORKS
from ddpm.rules import RULES
from ddpm.run.dvc import CHECK, Declared, declared_stages, needs
from ddpm.run.tracking.model_registry import register
from ddpm.run.yaml import load_yaml
from ddpm.sampling.sampler import SAMPLERS

README, EXTENDING, CHANGELOG = (REPO / name for name in ("README.md", "docs/extending.md", "CHANGELOG.md"))
PAGES = sorted({*REPO.glob("*.md"), *REPO.glob("docs/**/*.md"), *REPO.glob("doors/*/README.md")})
RECIPES = {path.stem for path in (REPO / "recipes").glob("*.yaml")}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(r"(?:\.ci|benchmarks|docs|doors|recipes|reports|src|stages|tests|data|models|samples)/[\w./-]*")


def name(page: Path) -> str:
    return page.relative_to(REPO).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=name)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [body for spoken, body in FENCE.findall(page.read_text()) if spoken == language]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def spans(page: Path) -> list[str]:
    """Code in the prose, except the first column of the changelog's table: names that are gone."""
    text = re.sub(r"^\| `[^|]*\|", "|", prose(page), flags=re.MULTILINE) if page == CHANGELOG else prose(page)
    return SPAN.findall(text)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every command in blocks and prose, and of those inside $(...)."""
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    for line in lines + [code for code in spans(page) if re.match(r"(make|dvc|python|pytest) \S", code)]:
        for inner in re.findall(r"\$\((.*?)\)", line):
            yield shlex.split(inner)
        for command in re.sub(r"\$\(.*?\)", "", line).split("&&"):
            if words := shlex.split(command, comments=True):
                yield words


def tables(page: Path) -> Iterator[list[list[str]]]:
    """The rows of each table, head included, as cells."""
    for table in re.findall(r"(?:^\|.*\|\n)+", prose(page), re.MULTILINE):
        yield [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()]


@cache
def slugs(page: Path) -> list[str]:
    """The anchors of the headings, as GitHub makes them."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return found


@cache
def stages(pipeline: Path = REPO) -> Mapping[str, Declared]:
    """Stages of the main pipeline, or of a door."""
    with chdir(pipeline):
        return declared_stages()


def pipelines(page: Path) -> list[Path]:
    """The pipelines a page describes: the main one, and on a door's page the door."""
    return [REPO] if page.parent.parent != REPO / "doors" else [REPO, page.parent]


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


def overrides(pages: list[Path]) -> Iterator[tuple[str, ...]]:
    """Overrides of `dvc exp run -S`."""
    for page in pages:
        for words in commands(page):
            if words[:3] == ["dvc", "exp", "run"] and (changes := get_main_parser().parse_args(words[1:]).set_param):
                yield tuple(changes)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A project with the files that the docs mention: pictures, and a model to start from."""
    root, images = tmp_path_factory.mktemp("root"), np.arange(80 * 64).astype(np.uint8).reshape(80, 8, 8)
    for name in ("pictures", ".data/digits", ".data/icons/usr/share/icons/oxygen/base/32x32", "my pictures"):
        (root / name).mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(image).save(root / name / f"{i}.png")
    np.savez(root / ".data/clothes.npz", x_train=images)
    params = checked_params(stages(), load_yaml(REPO / "params.yaml"))
    own, network = params.train_unet, NETWORKS[params.train_unet.network]
    model = network(own.config(params.data.source.img_shape, 10))
    model.noise_schedule = NoiseSchedule(own.max_steps, betas=SCHEDULES[own.schedule](own.max_steps))
    model.prediction = own.prediction
    save_model(root / "init/start.safetensors", model, {})
    return root


@pytest.mark.parametrize("changes", sorted(set(overrides([page for page in PAGES if page != EXTENDING]))), ids=" ".join)
def test_experiment_overrides_are_valid(changes, root, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(root))  # the base of relative paths
    for number, sweep in enumerate(get_hydra_sweeps(to_path_overrides(changes))):
        for file, own in sweep.items():
            path = tmp_path / f"{number}.yaml"
            shutil.copy(REPO / file, path)
            apply_overrides(path, own)
            pipeline = (REPO / file).parent  # a door's rules are in its stage check: tests/doors
            checked_params(stages(pipeline), load_yaml(path), RULES if pipeline == REPO else ())


def test_overrides_in_extending_are_valid(tmp_path):
    for folder in ("src", "stages"):
        shutil.copytree(REPO / folder, tmp_path / folder)
    for code in blocks(EXTENDING, "python"):
        (tmp_path / code.partition("\n")[0].removeprefix("# ")).write_text(code)
    tried = list(overrides([EXTENDING]))
    assert len(tried) == 3  # sampler, data set, network
    for number, changes in enumerate(tried):
        shutil.copy(REPO / "params.yaml", tmp_path / f"{number}.yaml")
        apply_overrides(tmp_path / f"{number}.yaml", [*changes])
    check = """
from pathlib import Path
from ddpm.check import checked_params
from ddpm.run.dvc import declared_stages
from ddpm.run.yaml import load_yaml
stages = declared_stages()
for path in Path().glob("*.yaml"):
    checked_params(stages, load_yaml(path))
"""
    command, environment = [sys.executable, "-c", check], os.environ | {"PYTHONPATH": "src"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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
        counted[path.stem] = "not tested yet" if "not run yet" in verdicts else counts
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


def registered(path: Path, img_shape: tuple[int, ...]) -> None:
    """Register a network as the pipeline does, in the working folder's `mlflow.db`."""
    client = MlflowClient("sqlite:///mlflow.db")
    run = client.create_run(client.create_experiment("ddpm", artifact_location=Path("mlartifacts").absolute().as_uri()))
    settings = {"sampler": "ddim", "n_steps": 3, "spacing": "even", "clip_sample": True, "guidance_scale": 1.0}
    about = {"name": "unet", "img_shape": img_shape, "time": 1, "judged_by": {}}
    about |= {"metrics": {"auc": 0.9}, "headline": "auc"}
    register(client, run.info.run_id, path, about | {"settings": settings | {"options": {}}})


def examples() -> Iterator[Any]:
    """Python blocks that are not files: extending.md's files run in the pipeline tests."""
    for page in PAGES:
        for number, code in enumerate(blocks(page, "python")):
            if not re.match(r"# \S+/\S+\.py\n", code):
                yield pytest.param(code, id=f"{name(page)}-{number}")


@pytest.mark.parametrize("code", list(examples()))
def test_examples_run(code, tmp_path, monkeypatch):
    """In an empty folder, with a small model where the pipeline puts its own, and less training."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)  # creating MLflow's database takes longer than the training
    network: Any = NETWORKS["unet"]
    model = network(network.Config(img_shape=(1, 8, 8), channels=8, dim_mults=(1, 2), max_steps=10))
    model.noise_schedule = NoiseSchedule(10)
    (tmp_path / "models").mkdir()
    save_model(tmp_path / "models/unet.safetensors", model, {"step": 1, "seed": 0})
    if "models:/" in code:
        registered(tmp_path / "models/unet.safetensors", model.img_shape)
    shorter = re.sub(r'"epochs": \d+', '"epochs": 0.02', code)
    exec(compile(shorter, "<documentation>", "exec"), {"__name__": "example"})
