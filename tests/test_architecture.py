"""The architecture: import times, layout, and file lengths."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from project import REPO

from ddpm.data.dataset import DatasetSource
from ddpm.registry import Registry

REGISTRIES = {  # where each is defined, with the files of its folder as entries
    "SAMPLERS": "ddpm.sampling.sampler",
    "NETWORKS": "ddpm.networks.network",
    "CONDITIONINGS": "ddpm.conditioning.conditioning",
    "DATASETS": "ddpm.data.dataset",
    "METRICS": "ddpm.evaluation.metric",
    "BOTTLENECKS": "ddpm.latent.bottleneck",
    "TOPICS": "ddpm.figures.topic",
}
CODE = sorted([*REPO.glob("src/ddpm/**/*.py"), *REPO.glob("stages/*.py"), *REPO.glob("doors/*/stages/*.py")])
TEXTS = [
    path
    for files in ("src/ddpm/**/*.html", "src/ddpm/**/*.js", "dvc.yaml", "doors/*/dvc.yaml")
    for path in REPO.glob(files)
]


def loaded_by(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*(m for m in sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


def test_importing_ddpm_is_lazy():
    loaded = loaded_by("import ddpm")
    assert {m for m in loaded if m.startswith("ddpm.")} == set()
    assert "torch" not in loaded


def test_forward_process_imports_only_the_schedule():
    modules = loaded_by("import ddpm.diffusion.forward")
    ours = {m for m in modules if m.startswith("ddpm.")}
    assert ours == {"ddpm.diffusion", "ddpm.diffusion.forward", "ddpm.diffusion.schedule"}
    assert not modules & {"mlflow", "matplotlib", "pandas", "torchvision", "pydantic"}


def test_training_imports_no_mlflow_and_delivery_no_torch():
    assert "mlflow" not in loaded_by("import ddpm.training.fit, ddpm.run.stage")
    assert "torch" not in loaded_by("import ddpm.run.tracking.delivery")


def test_import_contracts_hold():
    """The contracts of pyproject.toml."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("pattern", "most"),
    [
        *((f"{folder}/**/*.py", 300) for folder in ("src", "tests", "benchmarks")),
        ("stages/*.py", 60),
        ("doors/*/stages/*.py", 60),
    ],
)
def test_files_stay_under_the_line_limit(pattern, most):
    lengths = {path.relative_to(REPO): len(path.read_text().splitlines()) for path in REPO.glob(pattern)}
    assert {path: n for path, n in lengths.items() if n > most} == {}


def entries(name: str) -> Registry:
    return getattr(import_module(REGISTRIES[name]), name)


def test_every_registry_is_listed():
    found = {
        (match[1], path.relative_to(REPO / "src").with_suffix("").as_posix().replace("/", "."))
        for path in CODE
        for match in re.finditer(r"^([A-Z]+)\b.*= Registry\(", path.read_text(), re.MULTILINE)
    }
    assert found == set(REGISTRIES.items())


def strings(path) -> set[str]:
    """String constants of a file, not docstrings."""
    tree = ast.parse(path.read_text())
    documents = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
    }
    constants = {node for node in ast.walk(tree) if isinstance(node, ast.Constant)} - documents
    return {constant.value for constant in constants if isinstance(constant.value, str)}


@pytest.mark.parametrize("name", sorted(REGISTRIES.keys() - {"TOPICS"}))  # topics share names with models
def test_registry_names_are_not_hardcoded_elsewhere(name):
    """One name is allowed, as a default such as `sampler="ancestral"`."""
    registry = entries(name)
    folder = REPO / "src" / registry.package.replace(".", "/")
    listed = {path.relative_to(REPO): strings(path) & {*registry} for path in CODE if path.parent != folder}
    assert {path: sorted(names) for path, names in listed.items() if len(names) > 1} == {}


def test_dataset_constants_are_not_hardcoded_elsewhere():
    """All other code takes a data set's name, shape, sizes and classes from the data. Captions may name the classes."""
    datasets = entries("DATASETS")
    folder = REPO / "src" / datasets.package.replace(".", "/")
    for name, source in datasets.items():
        if not isinstance(source, DatasetSource):  # named after a kind of file
            continue
        classes = {w for w in source.class_names if len(w) > 5} - {"orange"}  # also a colour in figures
        words = re.compile(
            "|".join(
                rf"\b{re.escape(word)}\b" for word in {name, name.replace("_", ""), name.replace("_", "-"), *classes}
            ),
            re.IGNORECASE,
        )
        numbers = {source.n_train, source.n_test, *source.img_shape[1:]} - {10_000, 32}  # limits of many params
        code = [path for path in CODE if path.parent not in (folder, REPO / "src/ddpm/captions")]
        for path in code + TEXTS:
            assert not words.search(path.read_text()), path
        for path in code:
            constants = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
            assert not numbers & {value for value in constants if type(value) is int}, path
